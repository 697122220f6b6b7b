"""The tables of the PostgreSQL journal, the functions beside them, and how they came to be.

What must hold whoever writes is in functions of the database: each is one round trip and one transaction, and sees what
was committed while it waited for a lock. They take their locks in one order: session, then run.
"""

# ruff: noqa: S608 - only constants of this module are put together; every value is bound

from __future__ import annotations

from kadre.engine.memory import postgres_server
from kadre.engine.memory.postgres_server import Connection, Place

OPEN = "('queued', 'running', 'waiting')"
_MIGRATING = 0x6B616472
"""The advisory lock under which a database is brought up to a version: who opens it meanwhile waits."""

_TABLES = (
    "CREATE SEQUENCE owners AS integer CYCLE",
    """CREATE TABLE sessions (
        no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, agent text COLLATE "C" NOT NULL,
        session_id text COLLATE "C" NOT NULL, caller text COLLATE "C" NOT NULL, runs integer NOT NULL,
        created timestamptz NOT NULL, UNIQUE (agent, session_id)) WITH (fillfactor = 80)""",
    """CREATE TABLE runs (
        no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, run_id text COLLATE "C" NOT NULL UNIQUE,
        session bigint NOT NULL, ord integer NOT NULL, status text COLLATE "C" NOT NULL, last_seq integer NOT NULL,
        epoch integer NOT NULL, owner integer NOT NULL, parent text COLLATE "C" NOT NULL,
        created timestamptz NOT NULL, updated timestamptz NOT NULL, prompt_tokens bigint NOT NULL,
        completion_tokens bigint NOT NULL, total_tokens bigint NOT NULL, UNIQUE (session, ord))
        WITH (fillfactor = 80)""",
    f"CREATE INDEX open_runs ON runs (session, ord) WHERE status IN {OPEN}",
    "CREATE INDEX runs_by_age ON runs (created, run_id)",
    "CREATE TABLE entries (run bigint NOT NULL, seq integer NOT NULL, data bytea NOT NULL, PRIMARY KEY (run, seq))",
    'CREATE TABLE blobs (digest text COLLATE "C" PRIMARY KEY, put timestamptz NOT NULL, data bytea NOT NULL)',
    'CREATE TABLE blob_uses (run bigint NOT NULL, digest text COLLATE "C" NOT NULL, PRIMARY KEY (run, digest))',
    "CREATE INDEX uses_of_blob ON blob_uses (digest)",
)

# The session's row, made where it is missing, and locked: who has it knows that no run is added or ends meanwhile.
_ENTER = """
CREATE FUNCTION enter(an_agent text, a_session text, a_caller text, at timestamptz) RETURNS sessions
LANGUAGE plpgsql AS $$
DECLARE entered sessions;
BEGIN
    LOOP
        SELECT * INTO entered FROM sessions s WHERE s.agent = an_agent AND s.session_id = a_session FOR UPDATE;
        IF FOUND THEN RETURN entered; END IF;
        INSERT INTO sessions (agent, session_id, caller, runs, created) VALUES (an_agent, a_session, a_caller, 0, at)
            ON CONFLICT (agent, session_id) DO NOTHING RETURNING * INTO entered;
        IF FOUND THEN RETURN entered; END IF;
    END LOOP;
END $$"""

_NEW_RUN = (
    "a_run text, a_status text, a_last integer, an_owner integer, a_parent text, at timestamptz, till timestamptz,"
    " prompt bigint, completion bigint, total bigint, lines bytea, digests text[]"
)
_NEW_RUN_VALUES = "a_run, a_status, a_last, an_owner, a_parent, at, till, prompt, completion, total, lines, digests"

# A run of a session that is entered, with its first events; returns its order.
_ADD_RUN = f"""
CREATE FUNCTION add_run(a_session bigint, {_NEW_RUN}) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE the_order integer; the_run bigint;
BEGIN
    UPDATE sessions SET runs = runs + 1 WHERE no = a_session RETURNING runs INTO the_order;
    INSERT INTO runs (run_id, session, ord, status, last_seq, epoch, owner, parent, created, updated, prompt_tokens,
                      completion_tokens, total_tokens)
        VALUES (a_run, a_session, the_order, a_status, a_last, 1, an_owner, a_parent, at, till, prompt, completion,
                total)
        RETURNING no INTO the_run;
    INSERT INTO entries VALUES (the_run, 1, lines);
    IF cardinality(digests) > 0 THEN
        INSERT INTO blob_uses SELECT the_run, unnest(digests) ON CONFLICT DO NOTHING;
    END IF;
    RETURN the_order;
END $$"""

# The same where it is plain: a new run of the caller's own session, which rests. Null: look closer, nothing is written.
_BEGIN_RUN = f"""
CREATE FUNCTION begin_run(an_agent text, a_session_id text, a_caller text, {_NEW_RUN}) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE entered sessions;
BEGIN
    IF EXISTS (SELECT FROM runs WHERE run_id = a_run) THEN RETURN NULL; END IF;
    entered := enter(an_agent, a_session_id, a_caller, at);
    IF entered.caller <> a_caller
        OR EXISTS (SELECT FROM runs r WHERE r.session = entered.no AND r.status IN {OPEN}) THEN RETURN NULL; END IF;
    RETURN add_run(entered.no, {_NEW_RUN_VALUES});
END $$"""

# The next events of a run, if it is where its writer thinks: then the id of the run whose turn it is now, or ''; null
# where it is not. `a_status` null: as it was. A run that ends locks its session first, or a run that is added at the
# same moment would wait for one that has ended. Who waits elsewhere is told only where somebody waits: every commit
# that notifies waits for every other one that does.
_APPEND = f"""
CREATE FUNCTION append(a_run text, expected integer, an_epoch integer, a_last integer, a_status text, till timestamptz,
    prompt bigint, completion bigint, total bigint, lines bytea, digests text[], ends boolean) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE the_run bigint; the_session bigint; next_run text;
BEGIN
    IF ends THEN
        PERFORM FROM sessions s WHERE s.no = (SELECT r.session FROM runs r WHERE r.run_id = a_run) FOR UPDATE;
    END IF;
    UPDATE runs r SET last_seq = a_last, status = coalesce(a_status, r.status), updated = till,
            prompt_tokens = r.prompt_tokens + prompt, completion_tokens = r.completion_tokens + completion,
            total_tokens = r.total_tokens + total
        WHERE r.run_id = a_run AND r.last_seq = expected AND r.epoch = an_epoch AND r.status IN {OPEN}
        RETURNING r.no, r.session INTO the_run, the_session;
    IF NOT FOUND THEN RETURN NULL; END IF;
    INSERT INTO entries VALUES (the_run, expected + 1, lines);
    IF cardinality(digests) > 0 THEN
        INSERT INTO blob_uses SELECT the_run, unnest(digests) ON CONFLICT DO NOTHING;
    END IF;
    IF ends THEN
        SELECT r.run_id INTO next_run FROM runs r WHERE r.session = the_session AND r.status IN {OPEN}
            ORDER BY r.ord LIMIT 1;
        IF FOUND THEN
            PERFORM pg_notify(current_schema() || '_turns', a_run), pg_notify(current_schema() || '_turns', next_run);
        END IF;
    END IF;
    RETURN coalesce(next_run, '');
END $$"""

# Forget some of the agent's sessions that rest since before that moment, with all they hold; returns how many. A blob
# that was put after the other moment may still get its event, and stays.
_FORGET = f"""
CREATE FUNCTION forget(an_agent text, before timestamptz, blobs_before timestamptz, most integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE old bigint[]; of_them bigint[]; named text[];
BEGIN
    SELECT array_agg(found.no) INTO old FROM (
        SELECT s.no FROM sessions s JOIN runs r ON r.session = s.no AND r.ord = s.runs
        WHERE s.agent = an_agent AND r.updated < before
            AND NOT EXISTS (SELECT FROM runs o WHERE o.session = s.no AND o.status IN {OPEN})
        LIMIT most FOR UPDATE OF s SKIP LOCKED) found;
    IF old IS NULL THEN RETURN 0; END IF;
    SELECT array_agg(no) INTO of_them FROM runs WHERE session = ANY (old);
    WITH gone AS (DELETE FROM blob_uses WHERE run = ANY (of_them) RETURNING digest)
        SELECT array_agg(DISTINCT digest) INTO named FROM gone;
    DELETE FROM entries WHERE run = ANY (of_them);
    DELETE FROM runs WHERE no = ANY (of_them);
    DELETE FROM sessions WHERE no = ANY (old);
    DELETE FROM blobs b WHERE b.digest = ANY (named) AND b.put < blobs_before
        AND NOT EXISTS (SELECT FROM blob_uses u WHERE u.digest = b.digest);
    RETURN cardinality(old);
END $$"""

# Forget that session with all it holds; returns whether it rested, and is gone. Null: there is none.
_FORGET_ONE = f"""
CREATE FUNCTION forget_one(an_agent text, a_session text, blobs_before timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE the_session bigint; of_it bigint[]; named text[];
BEGIN
    SELECT s.no INTO the_session FROM sessions s WHERE s.agent = an_agent AND s.session_id = a_session FOR UPDATE;
    IF NOT FOUND THEN RETURN NULL; END IF;
    IF EXISTS (SELECT FROM runs o WHERE o.session = the_session AND o.status IN {OPEN}) THEN RETURN FALSE; END IF;
    SELECT array_agg(no) INTO of_it FROM runs WHERE session = the_session;
    WITH gone AS (DELETE FROM blob_uses WHERE run = ANY (of_it) RETURNING digest)
        SELECT array_agg(DISTINCT digest) INTO named FROM gone;
    DELETE FROM entries WHERE run = ANY (of_it);
    DELETE FROM runs WHERE no = ANY (of_it);
    DELETE FROM sessions WHERE no = the_session;
    DELETE FROM blobs b WHERE b.digest = ANY (named) AND b.put < blobs_before
        AND NOT EXISTS (SELECT FROM blob_uses u WHERE u.digest = b.digest);
    RETURN TRUE;
END $$"""

# A new type of event is a new version too, if with no statement: one that does not know it must not open the database.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (*_TABLES, _ENTER, _ADD_RUN, _BEGIN_RUN, _APPEND, _FORGET),
    (
        "CREATE TABLE leases (owner integer PRIMARY KEY, host text NOT NULL, until timestamptz NOT NULL)",
        f"CREATE INDEX runs_of_owner ON runs (owner) WHERE status IN {OPEN}",
    ),
    ("ALTER TABLE sessions ADD COLUMN title text NOT NULL DEFAULT ''", _FORGET_ONE),
)


async def prepare(db: Connection, where: Place) -> None:
    """Make the schema and bring it up to this version. Raises ProblemError: it is newer; else what asyncpg raises."""
    async with db.transaction():
        await db.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATING)
        if await db.fetchval("SELECT to_regnamespace($1) IS NULL", where.schema):  # who may not make one may have one
            await db.execute(f'CREATE SCHEMA "{where.schema}"')
        if await db.fetchval("SELECT to_regclass($1) IS NULL", f'"{where.schema}".version'):
            await db.execute("CREATE TABLE version (number integer NOT NULL)")
            await db.execute("INSERT INTO version VALUES (0)")
        version = await db.fetchval("SELECT number FROM version")
        if version > len(MIGRATIONS):
            raise postgres_server.newer(where, version, len(MIGRATIONS))
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                await db.execute(statement)
        if version < len(MIGRATIONS):
            await db.execute("UPDATE version SET number = $1", len(MIGRATIONS))
