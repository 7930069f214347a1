# What ./run, ./test and .ci/run share: installing what is missing and building. Sourced with bash, at the top of the checkout.
#
# Nothing here calls a package manager or the network when everything is already there.

set -euo pipefail
export LC_ALL="${LC_ALL:-C.UTF-8}"

# Kept between checkouts: the starter pack's packages, the test driver, and in CI the compiled dependencies.
cache="${BILLION_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/billion}"
if [[ -n "${CI:-}" && -z "${CARGO_TARGET_DIR:-}" ]]; then
  export CARGO_TARGET_DIR="$cache/target"
fi
target="${CARGO_TARGET_DIR:-$PWD/target}"
export BILLION_CACHE="$cache"

readonly rust_wanted=1.95 node_wanted=20.19

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
fail() { printf '%s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
# at_least FOUND WANTED: is version FOUND the same or newer?
at_least() { [[ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" == "$2" ]]; }

as_root() { if [[ $EUID -eq 0 ]]; then "$@"; else sudo "$@"; fi; }

apt_install() {
  if [[ $EUID -ne 0 ]] && ! have sudo; then
    fail "These packages are missing and there is no sudo. As root: apt-get install $*"
  fi
  say "Installing $*"
  as_root apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

# Each line: Debian's package, and a command that succeeds where it (or its like on other systems) is there.
base_needs() {
  echo "build-essential|have cc && have make"
  echo "ca-certificates|[[ -e /etc/ssl/certs/ca-certificates.crt || -e /etc/pki/tls/certs/ca-bundle.crt || -e /etc/ssl/cert.pem ]]"
  echo "python3-pip|have python3 && python3 -m pip --version >/dev/null 2>&1"
}
window_needs() {
  [[ "$(uname -s)" == Linux ]] || return 0
  echo "pkg-config|have pkg-config"
  echo "libwebkit2gtk-4.1-dev|pkg-config --exists webkit2gtk-4.1"
  echo "fonts-dejavu-core|[[ -n \"\$(find -L /usr/share/fonts /usr/local/share/fonts \"\$HOME/.fonts\" -name '*.[to]tf' -print -quit 2>/dev/null)\" ]]"
}
driver_needs() {
  [[ "$(uname -s)" == Linux ]] || return 0
  echo "xvfb|have Xvfb"
  echo "webkit2gtk-driver|have WebKitWebDriver"
}

# system_packages NEEDS...: installs what the named lists lack.
system_packages() {
  local missing=() package check list
  for list in "$@"; do
    while IFS='|' read -r package check; do
      eval "$check" || missing+=("$package")
    done < <("$list")
  done
  [[ ${#missing[@]} -eq 0 ]] && return
  have apt-get || fail "Missing: ${missing[*]} (Debian's names). Install them with this system's package manager and run this again; on Fedora WebKit is webkit2gtk4.1-devel, on Arch webkit2gtk-4.1."
  apt_install "${missing[@]}"
}

rust_found() { cargo --version 2>/dev/null | awk '{print $2}'; }
rust_is_new_enough() { local found; found="$(rust_found)"; [[ -n "$found" ]] && at_least "$found" "$rust_wanted"; }

rust() {
  [[ -d "$HOME/.cargo/bin" ]] && PATH="$PATH:$HOME/.cargo/bin"
  rust_is_new_enough && return
  if ! have rustup && have apt-get && [[ -n "$(apt-cache madison rustup 2>/dev/null)" ]]; then
    apt_install rustup
  fi
  if have rustup; then
    say "Installing the current stable Rust"
    rustup toolchain install stable --profile minimal --component rustfmt --component clippy
    export RUSTUP_TOOLCHAIN=stable
    hash -r
  fi
  rust_is_new_enough || fail "Billion needs Rust $rust_wanted or newer (found: $(rust_found || true)). Get it from https://rustup.rs and run this again."
}

node_is_new_enough() { have node && have npm && at_least "$(node --version | tr -d v)" "$node_wanted"; }

node_and_npm() {
  PATH="$cache/node/node_modules/.bin:$PATH"
  node_is_new_enough && return
  if ! have npm && have apt-get; then apt_install nodejs npm; fi
  if have npm && ! node_is_new_enough; then
    # The distribution's Node is too old for Vite; npm carries newer ones as packages.
    say "Node $(node --version) is older than $node_wanted: installing Node 22 into $cache/node"
    npm install --silent --no-audit --no-fund --prefix "$cache/node" node@22 npm@10
    hash -r
  fi
  node_is_new_enough || fail "Billion's window needs Node $node_wanted or newer with npm to build (found: $(node --version 2>/dev/null || echo none)). Get it from https://nodejs.org and run this again."
}

starter_pack() { python3 starter/fetch >&2; }

# npm_install FOLDER: what its lock file says, unless that is there already.
npm_install() {
  local installed="$1/node_modules/.package-lock.json"
  [[ -e "$installed" && ! "$1/package-lock.json" -nt "$installed" ]] && return
  say "Installing the packages of $1"
  (cd "$1" && npm ci --prefer-offline --no-audit --no-fund --loglevel=error >&2)
}

ui_is_built() {
  local stamp=ui/node_modules/.billion-built
  [[ -e $stamp && -e ui/dist/index.html ]] || return 1
  # The page that stands in before the first build is no build.
  ! grep -q "pages are not built" ui/dist/index.html || return 1
  [[ -z "$(find ui -path ui/node_modules -prune -o -path ui/dist -prune -o -type f -newer $stamp -print -quit)" ]]
}

ui_build() {
  npm_install ui
  ui_is_built && return
  say "Building the window's pages"
  (cd ui && npm run --silent build >&2)
  touch ui/node_modules/.billion-built
}

# The program that lets tests press the buttons of the real window.
tauri_driver() {
  local version=2.1.0
  [[ -x "$cache/tools/bin/tauri-driver-$version" ]] && return
  say "Installing tauri-driver $version"
  CARGO_TARGET_DIR="$target/tools" cargo install --quiet --locked --root "$cache/tools" --version "$version" tauri-driver
  mv "$cache/tools/bin/tauri-driver" "$cache/tools/bin/tauri-driver-$version"
}
