"""Which instance gets a request?"""
