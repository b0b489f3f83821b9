"""The embedded servers: real ones, started and killed."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pytest
import redis

from config import processes, servers


@pytest.fixture
def var():
    """A short folder that a lowered user can reach, which pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="sauda-var-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def run(*wanted):
    for server in wanted:
        server.prepare()
    for server in wanted:
        server.start()
    for server in wanted:
        server.wait()


def connect(var, role=servers.OWNER_ROLE):
    return psycopg.connect(servers.postgres_url(var, role), autocommit=True)


def client(var):
    return redis.Redis.from_url(servers.redis_url(var))


def test_what_was_written_is_there_after_a_restart(var):
    postgres, valkey = servers.Postgres(var), servers.Valkey(var)
    run(postgres, valkey)
    with connect(var) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
    client(var).set("kept", "1")
    postgres.stop()
    valkey.stop()

    run(postgres, valkey)
    with connect(var) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (1,)
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
    assert client(var).get("kept") == b"1"
    assert client(var).config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    postgres.stop()
    valkey.stop()
    assert processes.living_in(postgres.data) == []


def test_only_their_user_may_enter(var):
    postgres, valkey = servers.Postgres(var), servers.Valkey(var)
    run(postgres, valkey)

    for folder in (postgres.data, valkey.data, servers.socket_dir(var)):
        assert folder.stat().st_mode & 0o077 == 0
    assert all(os.stat(f"/proc/{p}").st_uid != 0 for p in processes.living_in(postgres.data))
    postgres.stop()
    valkey.stop()


def test_platforms_role_may_not_change_tables(var):
    postgres = servers.Postgres(var)
    run(postgres)

    refused = pytest.raises(psycopg.errors.InsufficientPrivilege)
    with connect(var, servers.APP_ROLE) as connection, refused:
        connection.execute("CREATE TABLE mine (n int)")
    postgres.stop()


def test_killed_servers_start_again(var):
    postgres, valkey = servers.Postgres(var), servers.Valkey(var)
    run(postgres, valkey)
    with connect(var) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
    for process in [*processes.living_in(postgres.data), *processes.living_in(valkey.data)]:
        with contextlib.suppress(ProcessLookupError):  # its postmaster's death may have ended it
            os.kill(process, signal.SIGKILL)
    assert (postgres.data / "postmaster.pid").exists()

    run(postgres, valkey)

    with connect(var) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (1,)
    postgres.stop()
    valkey.stop()


def test_stale_lock_with_the_number_of_a_living_process_is_no_wedge(var):
    postgres = servers.Postgres(var)
    run(postgres)
    postgres.child.kill()
    postgres.child.wait()
    processes.end_orphans(postgres.data, (signal.SIGQUIT, 5.0))
    lock = postgres.data / "postmaster.pid"
    lines = lock.read_text().splitlines()
    lock.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")

    run(postgres)

    with connect(var) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    postgres.stop()


def test_orphans_of_a_killed_supervisor_are_stopped_first(var):
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from config import servers\n"
        "found = servers.Postgres(Path(sys.argv[1])), servers.Valkey(Path(sys.argv[1]))\n"
        "for s in found: s.prepare()\n"
        "for s in found: s.start()\n"
        "for s in found: s.wait()\n"
        "print('up', flush=True)\n"
        "time.sleep(60)\n"
    )
    supervisor = subprocess.Popen(
        [sys.executable, "-c", program, str(var)], stdout=subprocess.PIPE, text=True
    )
    assert supervisor.stdout.readline() == "up\n"
    holder = connect(var)  # a client that would keep a "smart" shutdown waiting

    supervisor.kill()
    supervisor.wait()
    start = time.monotonic()
    postgres, valkey = servers.Postgres(var), servers.Valkey(var)
    run(postgres, valkey)

    assert time.monotonic() - start < 10
    with pytest.raises(psycopg.OperationalError):
        holder.execute("SELECT 1")
    with connect(var) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert client(var).ping()
    postgres.stop()
    valkey.stop()


def test_half_made_data_are_made_anew(var):
    postgres = servers.Postgres(var)
    draft = postgres.data.with_name("postgres.new")
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("17\n")

    run(postgres)

    assert not draft.exists()
    postgres.stop()


def test_long_path_gets_a_short_socket_folder(var):
    deep = var / ("a" * 60) / ("b" * 60)
    postgres = servers.Postgres(deep)
    run(postgres)

    assert len(os.fsencode(postgres.socket)) <= servers.SOCKET_PATH_LIMIT
    assert postgres.socket.parent.stat().st_mode & 0o077 == 0
    postgres.stop()
    shutil.rmtree(postgres.socket.parent)


def test_data_of_another_version_are_not_touched(var):
    postgres = servers.Postgres(var)
    postgres.prepare()
    version = postgres.data / "PG_VERSION"
    version.write_text("9\n")

    with pytest.raises(servers.ServerError, match="PostgreSQL 9 made the data"):
        postgres.prepare()


def test_folder_of_another_user_is_refused(var):
    wrong = processes.LOWERED_ID if os.geteuid() != 0 else 0
    folder = Path("/proc/self") if os.geteuid() != 0 else var
    assert folder.stat().st_uid in {0, os.geteuid(), wrong}

    with pytest.raises(servers.ServerError, match="belongs to user"):
        servers._must_be_ours(Path("/") if os.geteuid() != 0 else var)


def test_missing_server_says_what_to_install(monkeypatch):
    monkeypatch.setattr(servers, "_package", lambda name: [])
    monkeypatch.setattr(servers.shutil, "which", lambda name: None)
    monkeypatch.setattr(servers, "Path", lambda p: Path("/nowhere"))

    with pytest.raises(servers.ServerError, match=r"DATABASE_URL.*apt install postgresql"):
        servers.find_postgres()
    with pytest.raises(servers.ServerError, match=r"REDIS_URL.*apt install redis"):
        servers.find_valkey()


def test_failed_start_quotes_the_log(var):
    postgres = servers.Postgres(var)
    postgres.prepare()
    (postgres.data / "postgresql.conf").write_text("nonsense = \n")
    postgres.start()

    with pytest.raises(servers.ServerError, match="Cannot start PostgreSQL"):
        postgres.wait()
