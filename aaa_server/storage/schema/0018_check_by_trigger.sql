-- What calls write in every batch has no table CHECK: one is read from the catalogue and
-- compiled anew for each statement, also where none of its columns changes. These columns
-- hardly ever do. The names are those that the checks had.

ALTER TABLE account
    DROP CONSTRAINT account_check,
    DROP CONSTRAINT account_check1;

CREATE FUNCTION account_is_consistent() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.prepaid AND NEW.credit_limit_micros <> 0 THEN
        RAISE EXCEPTION 'account % is prepaid and has a credit limit', NEW.code
            USING ERRCODE = 'check_violation', CONSTRAINT = 'account_check', TABLE = 'account';
    END IF;
    IF (NEW.kind = 'admin') <> (NEW.parent_id IS NULL) THEN
        RAISE EXCEPTION 'account %: the admin, and nobody else, has no parent', NEW.code
            USING ERRCODE = 'check_violation', CONSTRAINT = 'account_check1', TABLE = 'account';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER account_stays_consistent
    AFTER INSERT OR UPDATE OF kind, parent_id, prepaid, credit_limit_micros ON account
    FOR EACH ROW EXECUTE FUNCTION account_is_consistent();

ALTER TABLE resource_group DROP CONSTRAINT resource_group_check;

CREATE FUNCTION resource_group_is_consistent() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.direction = 'out') <> (NEW.tariff_id IS NOT NULL) THEN
        RAISE EXCEPTION 'resource group %: outbound ones, and no others, have a price list',
            NEW.name
            USING ERRCODE = 'check_violation', CONSTRAINT = 'resource_group_check',
                  TABLE = 'resource_group';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER resource_group_stays_consistent
    AFTER INSERT OR UPDATE OF direction, tariff_id ON resource_group
    FOR EACH ROW EXECUTE FUNCTION resource_group_is_consistent();

CREATE DOMAIN call_status AS text
    CHECK (VALUE IN ('authorized', 'started', 'refused'));
ALTER TABLE call
    DROP CONSTRAINT call_status_check,
    ALTER COLUMN status TYPE call_status;
