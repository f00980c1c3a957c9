"""The compiled core: what runs once per callback or once per packet.

Each module is plain Python with a ``.pxd`` beside it that gives the C layout; setup.py turns every such pair into one
extension module. The modules form the layers 0 to 2 of docs/architecture.md and know nothing of what stands above.
"""
