"""Strategies of transfer that have a name, each in its smallest honest form, one file a strategy.

Small additions to a frozen network (chapter 09) go in by name, train, and come out again; what was
there before is bit for bit what it was::

    added = lora.add(model, "blocks.*.attn.qkv", rank=4)
    subsets.train_only(model, [*added, "head"])
    ...
    lora.merge(model)  # or inserts.remove(model, lora.LoRA)
"""
