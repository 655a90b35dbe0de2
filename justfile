# `just` is optional: every recipe is a cargo command. CI runs `check`.

# All checks of a change
check *steps:
    cargo xtask test {{ steps }}

# The tests alone, as a quick look
test *arguments:
    cargo test --workspace {{ arguments }}

# Us, libzmq, other crates and raw floors in turn; needs libzmq3-dev, pkg-config and a C compiler
bench *arguments:
    cargo xtask bench engine {{ arguments }}

# The daemon on loopback
serve *arguments:
    cargo run --release -p tidings -- serve {{ arguments }}

# Writes the pages that come from tables anew
book:
    UPDATE_BOOK=1 cargo test -p tidings-examples --test book

# Licences and banned crates; needs cargo-deny
deny:
    cargo deny check licenses bans sources
