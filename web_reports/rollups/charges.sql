    SELECT spanned.*
      FROM spans_within('charge', %(begin)s, %(end)s, %(widths)s, %(clock)s) AS part
     CROSS JOIN LATERAL (
           SELECT begins AS hour,
                  account_id,
                  party_id,
                  level,
                  provider_id, -- operator
                  own_rate_id, -- operator
                  rate_id,
                  prefix,
                  currency,
                  calls,
                  corrections,
                  billed_seconds,
                  amount_micros,
                  true AS spanned,
                  home_e10
             FROM charge_span
            WHERE width = part.width
              AND cut = %(span)s
              AND begins = part.begins
           OFFSET 0) AS spanned
     UNION ALL
    SELECT counted.*
      FROM hours_within('charge', %(begin)s, %(end)s, %(widths)s, %(clock)s) AS part
     CROSS JOIN LATERAL (
           SELECT hour,
                  account_id,
                  party_id,
                  level,
                  provider_id, -- operator
                  own_rate_id, -- operator
                  rate_id,
                  prefix,
                  currency,
                  calls,
                  corrections,
                  billed_seconds,
                  amount_micros,
                  false AS spanned,
                  NULL::numeric AS home_e10
             FROM charge_hour
            WHERE cut = %(cut)s
              AND hour >= part.begins
              AND hour < part.ends
           OFFSET 0) AS counted
     WHERE %(rolled)s
     UNION ALL
    SELECT hour,
           account_id,
           party_id,
           level,
           provider_id, -- operator
           own_rate_id, -- operator
           rate_id,
           prefix,
           currency,
           calls,
           corrections,
           billed_seconds,
           amount_micros,
           false,
           NULL
      FROM uncounted_charges(%(begin)s, %(end)s, %(rolled)s)
     WHERE cut = %(cut)s
