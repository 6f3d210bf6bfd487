"""Sphinx configuration of the documentation site; `make docs` builds it.

The source folder is the root of the repository, so that the links between its pages work on the
site as they do on a forge.
"""

from mmselfsup_invp import __version__, register_all_modules

register_all_modules()  # reports what is missing; the API pages import all packages

project = 'mmselfsup_invp'
author = 'The mmselfsup_invp contributors'
copyright = f'2026, {author}'
version = release = __version__

root_doc = 'docs/en/index'
include_patterns = [
    '*.md',
    'benchmarks/**.md',
    'configs/**/README.md',
    'docs/en/**.md',
    'examples/*.ipynb',
]
# Not searched for pages.
exclude_patterns = ['.*', 'data', 'work_dirs', 'build', 'dist', 'docs/_build', '**/.mim']

extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode']
myst_heading_anchors = 4
nb_execution_mode = 'off'  # tests/test_examples.py executes the notebook
autodoc_member_order = 'bysource'
autodoc_typehints = 'none'  # the docstrings state types, shapes and defaults
autodoc_default_options = {'members': True, 'show-inheritance': True}
napoleon_use_ivar = True  # attributes of a NamedTuple are documented once
napoleon_use_rtype = False
suppress_warnings = ['toc.no_title']  # of the generated benchmarks/arena/trials.md

html_theme = 'furo'
html_title = f'{project} {release}'
html_extra_path = ['site']  # index.html, which leads to the root document
