"""What a false `xllamacpp` has to have beside its `Server`: source text, for files that tests write.

No braces are in it, so it may be part of a text that `str.format` fills in.
"""

PARAMETERS = """
class Anything:
    def __getattr__(self, name): return self

class CommonParams:
    def __init__(self):
        self.__dict__.update(model=Anything(), cpuparams=Anything(), cpuparams_batch=Anything())

ggml_type = llama_pooling_type = llama_load_mode = llama_flash_attn_type = llama_split_mode = Anything()
xllamacpp = None
"""
