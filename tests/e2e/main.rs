//! End to end, from outside: the real binary as gateway and connector, with curl, openssl, nginx and an OpenID provider
//! (Node) as the world around it. What is asserted is what a user sees; nothing here calls into the library.
//!
//! Each test builds a [`harness::Lab`] of its own (PKI, config files, processes, upstream) on free ports and in a
//! folder of its own. Labs run side by side, except those that measure time, CPU or memory: they run alone. On failure
//! the logs of all processes are printed and the folder stays.
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `TIDEGATE_E2E_REQUESTS` | 2000 | requests of mixed sizes |
//! | `TIDEGATE_E2E_LARGEST` | 4 MiB | largest body among them |
//! | `TIDEGATE_E2E_BODY` | 200 MiB | the large bodies that memory is measured with |
//! | `TIDEGATE_E2E_SEED` | fixed | seed of sizes and contents |
//!
//! `scripts/soak-sizes` runs the same with 10,000 requests up to 100 MB and bodies of 1 GB.

mod harness;

mod aborts;
mod admission;
mod balancers;
mod certificates;
mod channels;
mod check;
mod connectors;
mod curl;
mod demo;
mod framing;
mod hardening;
mod identity;
mod idle;
mod instances;
mod ipv6;
mod load;
mod load_results;
mod losses;
mod observe;
mod oidc;
mod openssl;
mod paths;
mod preset;
mod reload;
mod restarts;
mod revocation;
mod sizes;
mod tokens;
mod topologies;
mod turns;
mod upstream_h2;
mod upstream_health;
mod upstream_tls;
mod upstreams;
mod waiting;
