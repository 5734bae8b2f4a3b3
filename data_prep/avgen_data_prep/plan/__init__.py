"""What preparing a corpus takes: bytes, hours of workers, tokens and money, from measured rates and dated prices."""
