"""A registry of one repository, `app`, with one tag, `latest`: `registry.py ARCHIVE TAGS`. ARCHIVE is what `docker save` made of
several images, TAGS a file with the name of the one that `latest` means now. Prints its port. Reads only, on 127.0.0.1."""

import hashlib
import http.server
import json
import re
import sys
import tarfile

ARCHIVE, TAGS = sys.argv[1:]
MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json'
LAYER = 'application/vnd.docker.image.rootfs.diff.tar.gzip'
CONFIG = 'application/vnd.docker.container.image.v1+json'


def digest(stream):
    sha, size = hashlib.sha256(), 0
    while chunk := stream.read(1 << 20):
        sha.update(chunk)
        size += len(chunk)
    return 'sha256:' + sha.hexdigest(), size


archive = tarfile.open(ARCHIVE)
blobs, manifests, parts = {}, {}, {}


def part(name, kind):
    if name not in parts:
        member = archive.getmember(name)
        while member.issym():  # a layer that two images share
            member = archive.getmember(re.sub(r'^(\.\./)+', '', member.linkname))
        parts[name] = digest(archive.extractfile(member))
        blobs[parts[name][0]] = (member.offset_data, member.size)
    return {'mediaType': kind, 'digest': parts[name][0], 'size': parts[name][1]}


for image in json.load(archive.extractfile('manifest.json')):
    config, layers = part(image['Config'], CONFIG), [part(name, LAYER) for name in image['Layers']]
    manifest = {'schemaVersion': 2, 'mediaType': MANIFEST, 'config': config, 'layers': layers}
    for name in image['RepoTags']:
        manifests[name] = json.dumps(manifest).encode()


class Registry(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        name = self.path.rsplit('/', 1)[-1]
        if self.path == '/v2/':
            self.answer('application/json', b'{}')
        elif '/manifests/' in self.path:
            known = [m for m in manifests.values() if 'sha256:' + hashlib.sha256(m).hexdigest() == name]
            body = known[0] if known else manifests[open(TAGS).read().strip()]
            self.answer(MANIFEST, body, 'sha256:' + hashlib.sha256(body).hexdigest())
        elif '/blobs/' in self.path and name in blobs:
            self.blob(*blobs[name])
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def answer(self, kind, body, of=None):
        self.send_response(200)
        self.send_header('Content-Type', kind)
        self.send_header('Content-Length', str(len(body)))
        if of:
            self.send_header('Docker-Content-Digest', of)
        self.end_headers()
        if self.command == 'GET':
            self.wfile.write(body)

    def blob(self, offset, size):
        self.send_response(200)
        self.send_header('Content-Type', 'application/octet-stream')
        self.send_header('Content-Length', str(size))
        self.end_headers()
        with open(ARCHIVE, 'rb') as file:
            file.seek(offset)
            while size > 0 and self.command == 'GET':
                chunk = file.read(min(size, 1 << 20))
                self.wfile.write(chunk)
                size -= len(chunk)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Registry)
print(server.server_address[1], flush=True)
server.serve_forever()
