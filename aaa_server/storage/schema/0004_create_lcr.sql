-- What decides between routes besides prices: how good they were, which margin must be
-- left, and price rows that name their route themselves.

-- ---------------------------------------------------------------- how good routes are

-- What became of the calls of the last hours; written anew every few minutes.
CREATE TABLE route_quality (
    resource_group_id bigint PRIMARY KEY REFERENCES resource_group,
    attempts integer NOT NULL CHECK (attempts >= 0),
    answered integer NOT NULL CHECK (answered BETWEEN 0 AND attempts),
    talk_seconds bigint NOT NULL CHECK (talk_seconds >= 0),
    counted_from timestamptz NOT NULL,
    counted_to timestamptz NOT NULL CHECK (counted_to >= counted_from)
);
CREATE TRIGGER route_quality_bumps AFTER INSERT OR UPDATE OR DELETE ON route_quality
    FOR EACH STATEMENT EXECUTE FUNCTION bump_catalogue();

-- The calls of the last hours are found by it. Records come in the order in which calls
-- end, so this costs next to nothing to keep.
CREATE INDEX cdr_ended_at ON cdr USING brin (ended_at) WITH (pages_per_range = 32);

-- ---------------------------------------------------------------- margins

-- Of the selling price; below 0: that much loss is accepted.
ALTER TABLE rate_group ADD CONSTRAINT rate_group_minimum_margin_ppm_check
    CHECK (minimum_margin_ppm BETWEEN -100000000 AND 1000000);

-- How often a route was not offered because less than the minimum margin would have been
-- left. Servers add what they have counted every few seconds.
CREATE TABLE route_refusal (
    hour timestamptz NOT NULL,
    rate_group_id bigint NOT NULL REFERENCES rate_group,
    resource_group_id bigint NOT NULL REFERENCES resource_group,
    refusals bigint NOT NULL CHECK (refusals > 0),
    PRIMARY KEY (hour, rate_group_id, resource_group_id)
) WITH (fillfactor = 60);

-- ---------------------------------------------------------------- forced routes

-- Calls that are sold at this row go out over this resource group and no other.
ALTER TABLE rate ADD COLUMN resource_group_id bigint REFERENCES resource_group;

-- ---------------------------------------------------------------- who sees what

-- Routes are the operator's business: nobody else may read any of it, or force one.
ALTER TABLE route_quality ENABLE ROW LEVEL SECURITY;
ALTER TABLE route_refusal ENABLE ROW LEVEL SECURITY;
GRANT INSERT (resource_group_id) ON rate TO sky_aaa_viewer;
ALTER POLICY viewer_adds ON rate
    WITH CHECK (tariff_id IN (SELECT tariff_id FROM rate_group WHERE owner_id = viewer_id())
                AND (account_id = 0 OR account_id IN (SELECT account_id FROM account))
                AND resource_group_id IS NULL);
