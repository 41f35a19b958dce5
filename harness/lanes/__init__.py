"""Lanes: one process per framework, each running its subjects on the cases it is sent.

lane.py       the conductor's end: starts a process, sends requests, notices when it dies or hangs, starts it again
bootstrap.py  what execnet ships to the new interpreter: makes `attnspec` importable there, then serves
server.py     the process's loop: request in, answers out
messages.py   what a request and an answer are, and how they travel
memory.py     the same arrays elsewhere in memory
call.py       one subject's call: a configuration's static arguments filled in, tensors left open
r_server.R   the R process behind the lane `r`
in_*.py      what differs between frameworks: conversion, call, gradient
"""
