#!/bin/sh
# Makes the image `portway-base` from Debian's own packages: Debian bookworm with Python, Flask and gunicorn, for
# machines that cannot pull from docker.io. It can stand in for the base of every Dockerfile here:
#
#     sudo docker/local-base.sh
#     docker build -t my-app --build-arg BASE=portway-base docker/my-app
#
# Needs root, debootstrap, a Debian mirror and a running engine; takes about two minutes. The tree from which the image
# is made stays in CACHE, so that a second engine needs seconds.
set -eu

image=${1:-portway-base}
cache=${CACHE:-/var/cache/portway-base}
tree=$cache/bookworm

[ "$(id -u)" -eq 0 ] || { echo "$0: debootstrap needs root. Try: sudo $0" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "$0: no debootstrap. Try: apt-get install debootstrap" >&2; exit 1; }
docker version >/dev/null || { echo "$0: no Docker engine answers" >&2; exit 1; }

# debootstrap begins anew where it was interrupted before; only a whole tree gets the name.
if [ ! -d "$tree" ]; then
    draft=$cache/draft.$$
    mkdir -p "$cache"
    trap 'rm -rf --one-file-system "$draft"' EXIT
    debootstrap --variant=minbase --include=python3-flask,gunicorn,python3-pip bookworm "$draft"
    # What the images of docker.io have and Debian does not: `python` by that name.
    ln -s python3 "$draft/usr/bin/python"
    mv "$draft" "$tree"
fi

# Debian's pip refuses to install beside Debian's packages; an image is one application, so there it may.
tar --one-file-system --exclude='./var/cache/apt/*.bin' --exclude='./var/cache/apt/archives/*.deb' \
    --exclude='./var/lib/apt/lists/*' --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' \
    -C "$tree" -c . |
    docker import -c 'ENV PIP_BREAK_SYSTEM_PACKAGES=1' -m 'Debian bookworm, Python, Flask, gunicorn' - "$image"
