"""What runs on every node: the agent, the health server, the election. Standard library only, Python 3.9 and up.

Nothing in here imports anything of `ws` outside `ws.node`: the folder is mounted, copied or spawned by itself.
"""
