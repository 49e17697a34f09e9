"""The page of `cops-app`: a small server on this machine, and one page without anything from elsewhere.

judge.py           detectors, and what they say of an image, as plain values
visitors.py        what each browser tab has uploaded and calibrated, in a folder that goes with the server
demonstration.py   the packaged detector and rendered examples
failures.py        run folders: results, and images sorted by worst error
server.py          routes, limits, and errors in a sentence
page/              the page itself
"""
