-- RADIUS by the script itself, for FreeSWITCH 1.11 and later. Needs luasocket. It only asks:
-- accounting is done by sky-aaa switch-agent.

local channel = require("channel")
local check = require("check")
local radius_packet = require("radius_packet")

local transport = {}

local AUTH_PORT = 1812
local CALL_CHECK = 10 -- RFC 2865 §5.6
local SERVERS_MAX = 2

-- "192.0.2.1", "192.0.2.1:1812", "[2001:db8::1]:1812" -> host, port
local function address(text)
    local host, port = text:match("^%[([%x:%.]+)%]:?(%d*)$")
    if not host then
        host, port = text:match("^([^:]+):?(%d*)$")
    end
    return host or text, tonumber(port) or AUTH_PORT
end

local function global(name)
    local value = freeswitch.getGlobalVariable(name)
    return value ~= "" and value or nil
end

-- sky_vars.xml: sky_radius_server, sky_radius_server_2, sky_radius_secret, sky_radius_bind.
local function servers()
    local list = {}
    for _, name in ipairs({ "sky_radius_server", "sky_radius_server_2" }) do
        local value = global(name)
        if value and #list < SERVERS_MAX then
            local host, port = address(value)
            list[#list + 1] = { host = host, port = port }
        end
    end
    return list
end

local function random(octets)
    local file = assert(io.open("/dev/urandom", "rb"))
    local value = file:read(octets)
    file:close()
    return value
end

local function pair(list, name, value)
    if value ~= nil then
        local said = channel.text(value)
        list[#list + 1] = radius_packet.cisco(1, name .. "=" .. said)
    end
end

local function attributes(session, request)
    local bind = global("sky_radius_bind")
    local list = {
        radius_packet.integer(6, CALL_CHECK),
        radius_packet.text(1, request.account or "unknown"),
        radius_packet.text(44, request.key),
        radius_packet.text(31, request.ani or "unknown"),
    }
    if request.called then
        list[#list + 1] = radius_packet.text(30, request.called)
    end
    list[#list + 1] = radius_packet.text(32, (channel.get(session, "hostname") or "freeswitch"))
    local a, b, c, d = (bind or ""):match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$")
    if a then
        list[#list + 1] = string.char(4, 6, tonumber(a), tonumber(b), tonumber(c), tonumber(d))
    end
    local peer = check.address(channel.get(session, "sip_network_ip"))
    if peer then
        list[#list + 1] = radius_packet.cisco(23, "h323-remote-address=" .. peer)
    end
    pair(list, "h323-ivr-out", "PHASE:" .. request.phase)
    pair(list, "call-id", channel.get(session, "sip_call_id"))
    pair(list, "sky-ext", request.ext)
    pair(list, "sky-rg-in", request.rg_in)
    pair(list, "sky-rg-out", request.rg_out)
    pair(list, "sky-mode", request.mode)
    pair(list, "sky-did", request.did)
    pair(list, "sky-elapsed", request.elapsed)
    pair(list, "sky-bill-msec", request.bill_msec)
    pair(list, "route", request.route)
    return list
end

local function open(socket, server, bind)
    local create = (server.host:find(":", 1, true) and socket.udp6) or socket.udp
    local udp, problem = create()
    if not udp then
        return nil, problem
    end
    if bind then
        udp:setsockname(bind, 0)
    end
    -- Connected: nobody else's datagrams are heard, and a closed port is told at once.
    local connected, why = udp:setpeername(server.host, server.port)
    if not connected then
        udp:close()
        return nil, why
    end
    return udp
end

-- Waits out one try: what is no authentic answer to this question is passed over.
local function listen(socket, udp, seconds, question)
    local deadline = socket.gettime() + seconds
    while true do
        local left = deadline - socket.gettime()
        if left <= 0 then
            return nil
        end
        udp:settimeout(left)
        local octets = udp:receive(radius_packet.OCTETS_MAX)
        if not octets then
            return nil
        end
        local code, values = radius_packet.answer(
            octets, question.identifier, question.authenticator, question.secret)
        if code then
            return code, values
        end
    end
end

local function ask_one(socket, server, limits, question)
    local udp, problem = open(socket, server, global("sky_radius_bind"))
    if not udp then
        channel.log("err", "RADIUS " .. server.host .. ": " .. tostring(problem))
        return nil
    end
    for _ = 1, limits.tries do
        udp:send(question.octets)
        local code, values = listen(socket, udp, limits.timeout_seconds, question)
        if code then
            udp:close()
            return code, values
        end
    end
    udp:close()
    channel.log("err", "RADIUS " .. server.host .. " does not answer")
    return nil
end

function transport.ask(session, request, settings)
    local found, socket = pcall(require, "socket")
    local secret = global("sky_radius_secret")
    if not found or not secret then
        channel.log("crit", found and "sky_radius_secret is not set: sky_vars.xml"
            or "luasocket is not installed (Debian: lua-socket)")
        return nil, function() end
    end
    local authenticator = random(16)
    local question = {
        identifier = random(1):byte(),
        authenticator = authenticator,
        secret = secret,
    }
    question.octets = radius_packet.request(
        question.identifier, authenticator, secret, attributes(session, request), request.pin)
    for _, server in ipairs(servers()) do
        local code, values = ask_one(socket, server, settings.radius, question)
        if code == radius_packet.ACCEPT then
            return "0", function(name) return values[name] end
        elseif code == radius_packet.REJECT then
            return "2", function(name) return values[name] end
        end
    end
    return nil, function() end
end

return transport
