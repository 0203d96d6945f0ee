-- When the next slice of a call is asked for, and by which command.

local channel = require("channel")

local slices = {}

-- Seconds from now, or nil when the slice is too short for another question. In the last slices of
-- a call, which get shorter and shorter, half of the time is left for the answer.
function slices.ask_after(seconds, margin)
    if seconds > 2 * margin then
        return seconds - margin
    elseif seconds >= 2 then
        return math.floor(seconds / 2)
    end
    return nil
end

-- The task is in the name of the called leg, and ends with it.
function slices.arm(folder, settings, callee, step, seconds)
    local after = slices.ask_after(seconds, settings.slice_margin_seconds)
    if after then
        channel.api("sched_api", ("+%.0f %s luarun %ssky_slice.lua %s %.0f")
            :format(after, callee, folder, callee, step))
    end
end

return slices
