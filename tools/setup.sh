#!/bin/sh
# Make the virtual environment for `make run` or `make test`, and what it needs of the system.
# Usage: PYTHON=python3 sh tools/setup.sh run|test VENV
#
# Missing Debian packages are installed where that needs no password; elsewhere the one line that does it is printed.
set -eu

purpose=$1
venv=$2
root=
python=${PYTHON:-python3}

say() { printf '%s\n' "$*" >&2; }

have_packages() {
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || return 1
    done
}

# Install Debian packages if we may, else say how and stop.
need_packages() {
    why=$1
    shift
    if command -v dpkg-query >/dev/null 2>&1 && have_packages "$@"; then
        return 0
    fi
    if ! command -v apt-get >/dev/null 2>&1; then
        say "hmacfs: $why is missing. Install what your system calls: $*"
        return 1
    fi
    root=
    if [ "$(id -u)" != 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            say "hmacfs: $why is missing. Install it with:"
            say "    sudo apt-get install -y $*"
            return 1
        fi
        root="sudo -n"
    fi
    say "hmacfs: installing $why ($*)"
    log=$(mktemp)
    if ! { $root apt-get update -qq && DEBIAN_FRONTEND=noninteractive $root apt-get install -y -qq --no-install-recommends "$@"; } >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        rm -f "$log"
        say "hmacfs: that failed; see above. The line was:"
        say "    apt-get install -y $*"
        return 1
    fi
    rm -f "$log"
}

if ! command -v "$python" >/dev/null 2>&1; then
    if [ "$python" != python3 ]; then
        say "hmacfs: there is no $python. Name another with: make $purpose PYTHON=/path/to/python3.11"
        exit 1
    fi
    need_packages "Python 3.11" python3 || exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    say "hmacfs: $python is $("$python" -V 2>&1), and 3.11 or newer is needed. Name another with: make $purpose PYTHON=/path/to/python3.11"
    exit 1
fi
if [ "$purpose" = test ]; then
    # promtool comes with a whole Prometheus, whose service would take port 9090 from `make run`.
    had_prometheus=no
    if command -v dpkg-query >/dev/null 2>&1 && have_packages prometheus; then
        had_prometheus=yes
    fi
    # mysqlclient has no wheel: it is compiled against the client library and Python's headers.
    need_packages "what the tests need" \
        curl gcc pkg-config python3-dev default-libmysqlclient-dev nginx-light e2fsprogs xfsprogs strace \
        redis-server postgresql mariadb-server-core fail2ban \
        prometheus systemd libseccomp2 logrotate openssl || exit 1
    if [ "$had_prometheus" = no ] && [ -d /run/systemd/system ]; then
        $root systemctl disable --now prometheus >/dev/null 2>&1 || say "hmacfs: prometheus.service may have port 9090 now"
    fi
    # They run the upload clients of others. Debian's are asked for only where there are none.
    command -v chromium >/dev/null 2>&1 || need_packages "the browser of the tests" chromium || exit 1
    command -v npm >/dev/null 2>&1 || need_packages "node and npm" nodejs npm || exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    need_packages "Python's venv module" python3-venv || exit 1
fi
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

extras=
[ "$purpose" = test ] && extras='[dev,mysql]'
say "hmacfs: installing Python packages into $venv"
if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e ".$extras"; then
    say "hmacfs: the packages could not be installed; see above. Is there a way to a package index?"
    exit 1
fi
if [ "$purpose" = test ]; then
    say "hmacfs: installing npm packages into tests/clients/js"
    # Exactly what package-lock.json names, and no script of a package is run.
    if ! npm ci --prefix tests/clients/js --ignore-scripts --no-audit --no-fund --loglevel=error >&2; then
        say "hmacfs: the npm packages could not be installed; see above. Is there a way to the npm registry?"
        say "hmacfs: without them the tests of other people's upload clients are skipped. To install them later:"
        say "    npm ci --ignore-scripts --prefix tests/clients/js"
        [ "${CI:-}" != true ] || exit 1
    fi
fi
pwd >"$venv/.ready-run"
[ "$purpose" = test ] && touch "$venv/.ready-test"
exit 0
