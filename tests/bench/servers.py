"""The servers that are measured: started with sockets and folders of their own, placed on processors, asked for the processor time they used."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time

PG = "/usr/lib/postgresql/15/bin"
ALL_CPUS = os.sched_getaffinity(0)
ONE_CPU = {min(ALL_CPUS)}


class Server:
    """Ended by its pid. `address` is what the load connects to."""

    def __init__(self, name, argv, address, ready=None, **popen):
        """`ready()`: whether it serves; without it: its socket is there."""
        self.name, self.address = name, address
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **popen)
        deadline = time.monotonic() + 20
        while not (ready() if ready else os.path.exists(address)):
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.process.kill()
                raise RuntimeError(f"{name} did not start")
            time.sleep(0.01)

    def pids(self):
        """It and its children (PostgreSQL has one for each connection)."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as f:
            return [self.process.pid, *map(int, f.read().split())]

    def tasks(self):
        for pid in self.pids():
            with contextlib.suppress(FileNotFoundError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    yield pid, int(task)

    def place(self, cpus):
        for _, task in self.tasks():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(task, cpus)

    def cpu_ns(self):
        """Of those that live: so both readings of a measurement are taken while all connections are open."""
        total = 0
        for pid, task in self.tasks():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
                    total += int(f.read().split()[0])
        return total

    def fresh(self):
        """Before each measurement: nothing is left of the one before."""

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Redis(Server):
    def __init__(self, folder):
        path = f"{folder}/redis"
        super().__init__("redis", ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", folder], path)

    def fresh(self):
        """No keys; the list that is the shared lock has its element."""
        for command in (["flushall"], ["lpush", "list:shared.lock", "1"]):
            subprocess.run(["redis-cli", "-s", self.address, *command], check=True, stdout=subprocess.DEVNULL)


class Postgres(Server):
    def __init__(self, folder):
        data = f"{folder}/postgres"
        os.mkdir(data, 0o700)
        run = {"cwd": data}
        if os.getuid() == 0:  # it refuses to be root
            shutil.chown(data, "postgres", "postgres")
            run["user"] = run["group"] = "postgres"
        subprocess.run([f"{PG}/initdb", "-D", f"{data}/db", "-U", "postgres", "-A", "trust", "-N"], check=True, stdout=subprocess.DEVNULL, **run)
        address = f"host={data} user=postgres dbname=postgres"
        options = ("listen_addresses=", "max_connections=200", "fsync=off", "synchronous_commit=off", "autovacuum=off")
        argv = [f"{PG}/postgres", "-D", f"{data}/db", "-k", data, *(word for o in options for word in ("-c", o))]
        super().__init__("postgres", argv, address, lambda: subprocess.run([f"{PG}/pg_isready", "-q", "-h", data], check=False).returncode == 0, **run)

    def backends(self):
        """The children that serve a connection."""
        found = 0
        for pid in self.pids()[1:]:
            with contextlib.suppress(FileNotFoundError):
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    found += b"postgres postgres [local]" in f.read()
        return found

    def fresh(self):
        deadline = time.monotonic() + 10
        while self.backends() > 0:
            if time.monotonic() > deadline:
                raise RuntimeError("PostgreSQL's backends do not end")
            time.sleep(0.01)

    def end(self):
        self.process.send_signal(signal.SIGINT)  # fast: does not wait for clients
        self.process.wait(20)


class Etcd(Server):
    """Its data is kept in memory if there is such a place: 3.4 cannot leave out fsync."""

    def __init__(self, folder):
        with socket.socket() as a, socket.socket() as b:
            a.bind(("127.0.0.1", 0))
            b.bind(("127.0.0.1", 0))
            port, peer = a.getsockname()[1], b.getsockname()[1]
        self.data = f"/dev/shm/{os.path.basename(folder)}-etcd" if os.access("/dev/shm", os.W_OK) else f"{folder}/etcd"
        url, peer_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"
        argv = ["etcd", "--data-dir", self.data, "--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", peer_url]
        argv += ["--initial-advertise-peer-urls", peer_url, "--initial-cluster", f"default={peer_url}"]
        try:
            super().__init__("etcd", argv, f"127.0.0.1:{port}", lambda: self.healthy(port))
        except RuntimeError:
            shutil.rmtree(self.data, ignore_errors=True)
            raise

    @staticmethod
    def healthy(port):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as s:
            s.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            return b'"true"' in s.makefile("rb").read()
        return False

    def end(self):
        super().end()
        shutil.rmtree(self.data, ignore_errors=True)


class NoServer:
    """For flock(2) itself."""

    name, address = "none", "-"

    def place(self, cpus):
        pass

    def cpu_ns(self):
        return None

    def fresh(self):
        pass

    def end(self):
        pass


class Servers:
    """All of them, by name. A peer that is not installed is left out and said so; with `bare` none is even looked for."""

    def __init__(self, build, folder, bare=False):
        self.by_name = {"none": NoServer()}
        self.missing = []
        try:
            self.start(build, folder, bare)
        except BaseException:
            self.end()
            raise

    def start(self, build, folder, bare):
        bench = os.path.join(build, "tests/bench")
        for name in ("echo", "roofline"):
            self.add(Server(name, [f"{bench}/bench_server", name, f"{folder}/{name}"], f"{folder}/{name}"))
        self.add(Server("relay", [f"{bench}/bench_relay", f"{folder}/relay"], f"{folder}/relay"))
        daemon = [os.path.join(build, "daemon/portalockd"), "--socket", f"{folder}/portalock/socket", "--state-dir", f"{folder}/state"]
        self.add(Server("portalock", daemon, f"{folder}/portalock/socket"))
        if bare:
            return
        for name, needs, make in (("redis", "redis-server", Redis), ("postgres", f"{PG}/postgres", Postgres), ("etcd", "etcd", Etcd)):
            if shutil.which(needs):
                self.add(make(folder))
            else:
                self.missing.append(name)

    def add(self, server):
        self.by_name[server.name] = server

    def __getitem__(self, name):
        return self.by_name[name]

    def __contains__(self, name):
        return name in self.by_name

    def end(self):
        for server in self.by_name.values():
            server.end()
