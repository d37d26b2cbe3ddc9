# Becomes gunicorn, or what the image's manner says. DELAY is seconds before anything listens.
case "$MANNER" in
exits)
    echo "reading the settings"
    echo "cannot reach the database at db.internal:5432" >&2
    exit 3
    ;;
deaf)
    exec python3 -c 'import signal, sys; signal.signal(15, lambda *_: sys.exit(0)); print("deaf", flush=True); signal.pause()'
    ;;
esac
[ -z "$DELAY" ] || sleep "$DELAY"
exec gunicorn --bind 0.0.0.0:5000 --workers 1 --worker-class gthread --threads "${THREADS:-16}" \
    --worker-tmp-dir /dev/shm --graceful-timeout 20 --log-level warning app:app
