-- How a question gets to the server. A transport is one file, transport_NAME.lua, with
--
--   ask(session, request, settings) -> result, get
--
-- `request`: phase ("authorize:1", "reauth:2", "end:1"), key, account, pin, ani, called, ext,
-- rg_in, rg_out, mode, did, elapsed (seconds), bill_msec, route. What is nil was not said.
-- `result`: "0" Accept, "2" Reject, anything else silence. `get(name)`: an attribute's text or nil.

local transport = {}

function transport.ask(session, request, settings)
    -- From the operator's own settings, but a name of a file all the same.
    assert(settings.transport:find("^[%w_]+$"), "sky_settings.lua: transport")
    return require("transport_" .. settings.transport).ask(session, request, settings)
end

return transport
