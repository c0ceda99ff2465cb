"""The man pages, larder(1) and images.toml(5): made from what `larder help`, the schema and docs/ say.

`python -m man FOLDER` writes them; the wheel has them in share/man (hatch_build.py).
"""
