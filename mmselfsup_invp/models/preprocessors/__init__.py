from .augmenting_data_preprocessor import AugmentingDataPreprocessor

__all__ = ['AugmentingDataPreprocessor']
