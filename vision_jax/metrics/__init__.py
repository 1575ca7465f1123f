"""Measures of images and of sets of images: PSNR, and the Fréchet distance with the sums it is made from."""
