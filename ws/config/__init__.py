"""The configuration: models, loading with every problem reported at once, and the plan that follows from it.

Nothing is imported here, so that a command pays only for the part it uses:

    memory  sizes as Compose writes them
    fields  the types of single values, each with its own words for what is wrong
    models  the sections of config.yaml
    plan    hostnames, addresses and port blocks of every node
    load    file, environment and flags into one validated configuration
    show    the configuration as YAML, and its JSON schema
"""
