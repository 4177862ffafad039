"""The generated parts of docs/reference: `./run docs.reference` writes them, tests/unit/test_reference_pages.py compares them."""
