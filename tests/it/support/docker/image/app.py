"""A service that says who answered and writes down what it executed, before it answers, where `docker kill` takes nothing
away: in /book, one file for each container. Bodies and hashes are those of tests/faults/stage/payload.rs."""

import os
import socket
import time

from flask import Flask, Response, request

WHO = socket.gethostname()
VERSION = os.environ.get('VERSION', '1')
SERVICE = os.environ.get('SERVICE', 'web')
MASK = (1 << 64) - 1
BOOK = os.open('/book/' + WHO, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666) if os.path.isdir('/book') else None

app = Flask(__name__)
probed = False


def note(*words):
    if BOOK is not None:
        os.write(BOOK, (' '.join(str(word) for word in words) + '\n').encode())


def now_us():
    return time.time_ns() // 1000


def body_of(number, size):
    blocks = ('%016x' % ((((number << 16 & MASK) ^ nth) * 6364136223846793005) & MASK) for nth in range(size // 16 + 1))
    return ''.join(blocks)[:size]


def fnv(data):
    value = 0xcbf29ce484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001b3) & MASK
    return value


@app.route('/api', methods=['GET'])
def api():
    return 'Hello, World!'


@app.route('/healthz')
def healthz():
    global probed
    if not probed:
        probed = True
        note('probed', now_us())
    return 'ok'


@app.route('/w/<int:size>', methods=['GET', 'POST'])
def work(size):
    number = int(request.headers['x-id'])
    note('ran', number, now_us(), fnv(request.get_data()))
    return Response(body_of(number, size), headers={'x-id': str(number), 'x-service': SERVICE})


@app.route('/sleep/<int:ms>')
def sleep(ms):
    time.sleep(ms / 1000)
    return 'slept'


@app.route('/drip/<int:seconds>')
def drip(seconds):
    def pieces():
        for _ in range(seconds * 10):
            yield 'drop\n'
            time.sleep(0.1)
    return Response(pieces())


@app.after_request
def say_who(response):
    response.headers['x-backend'] = WHO
    response.headers['x-version'] = VERSION
    return response


note('started', now_us())
