"""The express lane: plain reads whose decision is remembered, answered before a request object is built.

It holds no rules of its own. What it answers was decided by the other lane, and with the same pure functions it plans
ranges and conditions, renders heads, counts and logs. Everything else goes to aiohttp.
"""
