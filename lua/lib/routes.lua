-- ROUTES:RG_22=sofia/gateway/globex/442071838750|RG_21=… -> { { name, dial }, … } in trial order.

local check = require("check")

local routes = {}

local NAME_OCTETS_MAX = 16

-- The routes that may be dialled, and how many others there were.
function routes.parse(text, most)
    local list, strange = {}, 0
    local said = type(text) == "string" and text:match("ROUTES:(.*)$") or ""
    for part in said:gmatch("[^|]+") do
        local name, dial = part:match("^([%w_%-]+)=(.+)$")
        local number = name == "PSTN" and check.called(dial) or nil
        if name and #name <= NAME_OCTETS_MAX and (number or check.dial(dial)) then
            if #list < most then
                list[#list + 1] = { name = name, dial = dial }
            end
        else
            strange = strange + 1
        end
    end
    return list, strange
end

return routes
