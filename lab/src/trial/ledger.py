"""A ledger in SQLite with a write-ahead log: one process writes what clients send, another one reads all the while.

serve DATABASE PORT: a line `put OWNER NUMBER TEXT` is answered with `ok NUMBER` once the row is on disk, `get OWNER NUMBER`
with the row's text. dump DATABASE: SQLite's own integrity check, then all rows.
"""

import os
import signal
import socketserver
import sqlite3
import sys
import threading
import time


def connect(path):
    database = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("PRAGMA wal_autocheckpoint=50")
    return database


def read_all_the_while(path):
    """Ends with an error if a transaction ever sees a row missing below one that is there, or rows vanish."""
    database, before = connect(path), {}
    while True:
        database.execute("BEGIN")
        seen = {}
        for owner, count, last in database.execute("SELECT owner, count(*), max(number) FROM rows GROUP BY owner"):
            seen[owner] = count
            if count != last + 1 or count < before.get(owner, 0):
                sys.exit(f"the reader sees {count} rows of {owner} up to number {last}, after {before.get(owner, 0)}")
        database.execute("COMMIT")
        if any(owner not in seen for owner in before):
            sys.exit("the reader misses all rows of an owner")
        before = seen
        time.sleep(0.02)


def serve(path, port):
    writer, turn = connect(path), threading.Lock()
    writer.execute("CREATE TABLE IF NOT EXISTS rows (owner TEXT, number INTEGER, text TEXT, PRIMARY KEY (owner, number))")
    reader = os.fork()
    if reader == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        read_all_the_while(path)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

    def reader_lives():
        return os.waitpid(reader, os.WNOHANG) == (0, 0)

    def answer(words):
        if words[0] == "put":
            with turn:
                writer.execute("INSERT INTO rows VALUES (?, ?, ?)", (words[1], int(words[2]), words[3]))
            return f"ok {words[2]}"
        if words[0] == "get":
            with turn:
                row = writer.execute("SELECT text FROM rows WHERE owner = ? AND number = ?", (words[1], int(words[2])))
                return "row " + (row.fetchone() or ["none"])[0]
        if words[0] == "reader":
            return "ok reader" if reader_lives() else "error the reader has ended"
        return "error no such word"

    class Client(socketserver.StreamRequestHandler):
        def handle(self):
            for line in self.rfile:
                try:
                    said = answer(line.decode().split())
                except Exception as error:
                    said = f"error {error}"
                self.wfile.write((said + "\n").encode())

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    Server(("0.0.0.0", port), Client).serve_forever()


def dump(path):
    database = connect(path)
    print("integrity", database.execute("PRAGMA integrity_check").fetchone()[0])
    for owner, number, text in database.execute("SELECT owner, number, text FROM rows ORDER BY owner, number"):
        print(owner, number, text)


if sys.argv[1] == "serve":
    serve(sys.argv[2], int(sys.argv[3]))
else:
    dump(sys.argv[2])
