CREATE TABLE IF NOT EXISTS "public"."foreline_commit" (
    "pipeline" text NOT NULL,
    "sink" text NOT NULL,
    "stream" text NOT NULL,
    "epoch" bigint,
    "run_id" bigint NOT NULL,
    "generation" bigint NOT NULL,
    "committed_at" timestamp with time zone,
    PRIMARY KEY ("pipeline", "sink", "stream")
);
CREATE TABLE "public"."rul" (
    "machine" text NOT NULL,
    "window_end" timestamp with time zone NOT NULL,
    "v" double precision,
    "_generation" bigint NOT NULL,
    "_revision" integer NOT NULL,
    PRIMARY KEY ("machine", "window_end")
);
SELECT create_hypertable('"public"."rul"', by_range('window_end', interval '1 day'), if_not_exists => true);
ALTER TABLE "public"."rul" SET (timescaledb.enable_columnstore, timescaledb.segmentby = '"machine"', timescaledb.orderby = '"window_end"');
SELECT add_compression_policy('"public"."rul"', interval '7 days', if_not_exists => true);
SELECT add_retention_policy('"public"."rul"', interval '90 days', if_not_exists => true);
CREATE MATERIALIZED VIEW "public"."rul_hourly" WITH (timescaledb.continuous) AS
    SELECT time_bucket(interval '1 hour', "window_end") AS "bucket", "machine", avg("v") AS "v_avg", max("v") AS "v_max"
    FROM "public"."rul"
    GROUP BY 1, 2
    WITH NO DATA;
SELECT add_continuous_aggregate_policy('"public"."rul_hourly"', start_offset => NULL, end_offset => interval '1 hour', schedule_interval => interval '1 hour', if_not_exists => true);
