"""What Tidegate promises in figures, and whether it holds: what `scripts/bench` is made of.

    read    tuning/budgets.toml as budgets, and what is wrong with it
    tools   who measures what: criterion benches, instructions, handshake, compare, hold-channels
    run     one tool after the other: progress, time-outs, what else the machine did
    table   verdicts, the table, the file of `--json`
    check   all of it on made-up figures, and budgets.toml itself

Invariants:
 - tuning/budgets.toml is the one place of promised figures. Each budget names the tool that measures it and the name that
   it has there; a budget whose source nobody knows is an error of the file, found by `scripts/test`.
 - A figure comes from the run in hand, never from a file that an earlier one left behind.
 - A tool that fails costs its own budgets, each a row with the reason, and no other's.
"""
