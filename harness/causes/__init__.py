"""What a fault is called: changes of a spec, and what else kernels get wrong, each compared with what a subject answers.

`perturbations.py` changes one field of the spec; `slips.py` has axes, caps and blocks, `softmax_slips.py` a softmax,
`narrow_slips.py` half precision, `gradient_slips.py` a backward pass. `search.py` finds what explains every failing call
and is not ruled out by those that pass; where nothing is, `stages.py` says where a subject first differs. `witnesses.py` is
about failures of two calls. They share how a spec is rewritten (`rewriting.py`).
"""
