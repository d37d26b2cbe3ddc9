# Becomes gunicorn, or what the image's manner says. DELAY is seconds before anything listens, LINGER those that it goes on
# as before after SIGTERM.
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
if [ -n "$LINGER" ]; then
    gunicorn --bind 0.0.0.0:5000 --workers 1 --worker-class gthread --threads "${THREADS:-16}" \
        --worker-tmp-dir /dev/shm --graceful-timeout 20 --log-level warning app:app &
    trap 'sleep "$LINGER"; kill -TERM "$!"' TERM
    wait "$!" # ends with the signal, when the trap has been run
    wait "$!"
    exit
fi
exec gunicorn --bind 0.0.0.0:5000 --workers 1 --worker-class gthread --threads "${THREADS:-16}" \
    --worker-tmp-dir /dev/shm --graceful-timeout 20 --log-level warning app:app
