"""The express lane: plain reads, answered before a request object is built.

It holds no rules of its own. Sessions are judged by the other lane, and their decisions remembered; a token alone is
judged here by the same functions. With the same ones ranges and conditions are planned, heads rendered, and requests
counted and logged. Everything else goes to aiohttp.
"""
