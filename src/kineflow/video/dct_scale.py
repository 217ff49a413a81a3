"""Sizes at which a JPEG can be decoded straight from its coefficients: eighths of its own, rounded up.

A block of 8 x 8 coefficients is turned into k x k pixels, which is a clean reduction to k / 8 of the size and cheaper
than to decode the whole image and shrink it.
"""

WHOLE = 8  # eighths


def scaled_px(whole_px: int, eighths: int) -> int:
    """What `whole_px` pixels are at `eighths` / 8."""
    return -(-whole_px * eighths // WHOLE)


def fewest_eighths(height: int, width: int, *, min_height: int, min_width: int) -> int:
    """The smallest k, 1 to 8, at which an image of height x width still has the wanted pixels; 8 if it never has."""
    for eighths in range(1, WHOLE):
        if scaled_px(height, eighths) >= min_height and scaled_px(width, eighths) >= min_width:
            return eighths
    return WHOLE
