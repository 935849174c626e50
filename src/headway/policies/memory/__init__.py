"""Whom to take KV blocks from, and how?"""
