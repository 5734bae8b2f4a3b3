"""The stages of a pipeline; `avgen_data_prep.pipeline.spec` names them."""
