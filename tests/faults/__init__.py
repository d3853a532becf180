"""A fleet of real processes under random kills and freezes, and the proof that nothing was lost.

`fleet` starts and restarts the processes, `customer` submits jobs to them, `mayhem` kills and freezes. Inside
workers and children `witness/sitecustomize.py` writes a `journal` of what they really do. `evidence` judges a
run by that journal, the records and the store; `control` shows that its overlap detector detects.
"""
