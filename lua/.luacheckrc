-- FreeSWITCH runs one Lua state for each script: these are the only globals it gives.
std = "min"
read_globals = { "session", "freeswitch", "argv" }
max_line_length = 100
files["sky_settings.lua"] = { read_globals = {} }
