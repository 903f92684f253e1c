"""The same work through Tidegate and its peers, in one run: what `scripts/compare` is made of.

    lab        a folder, ports, certificates, processes that are ended at the end
    origin     what every peer leads to: an nginx with files, and `upstream`, which takes uploads and holds requests
    peers      one file for each kind: how it is configured, started, and which processes it is made of
    fetch      peers that are not installed, into a folder of the build
    load       one run of `tidegate load` against one peer, as a sample; `clients` holds idle connections and requests
    measures   the cases: what is asked of every peer, and how often
    rounds     the order in which that happens, the first look at each peer, progress
    figures    medians, spreads, ratios within a round
    promises   what Tidegate promises beside its peers, and what came out
    tables     the result on a terminal
    page       the result as a page of its own; `charts` draws

Invariants:
 - Peers are measured in turn, case by case, in an order that rotates from round to round, so that a mood of the machine
   meets all alike. A ratio is taken between two samples of the same round and is never made of two runs of this program.
 - CPU is what the kernel counted for each process (schedstat) between the end of the warm-up and the end of the load.
 - A peer is measured only after it has answered with the right bytes, over kept-alive connections to the origin; a run
   with a single error or another status than 200 is an error, never a figure.
 - What could not be measured is told with its reason, in its place.
"""
