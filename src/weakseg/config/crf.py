"""The searches on the held-out images: the CRF's parameters, and those of Bbox-Seg."""

from pydantic import Field, model_validator

from weakseg.strict import Strict


class CrfGrid(Strict):
    """Values of one parameter grid."""

    w: tuple[float, ...] = Field((5.0, 10.0), min_length=1, description="Weight of the bilateral kernel.")
    sigma_xy: tuple[float, ...] = Field(
        tuple(float(s) for s in range(50, 101, 10)), min_length=1, description="Bilateral position sigma, pixels."
    )
    sigma_rgb: tuple[float, ...] = Field(
        tuple(float(s) for s in range(3, 11)), min_length=1, description="Bilateral colour sigma, of 0..255."
    )


class CrfDistances(Strict):
    """Distances of a finer grid from the best so far; 0 leaves a parameter as it is."""

    w: float = Field(0.0, ge=0, description="Distance in the weight of the bilateral kernel.")
    sigma_xy: float = Field(0.0, ge=0, description="Distance in the bilateral position sigma, pixels.")
    sigma_rgb: float = Field(0.0, ge=0, description="Distance in the bilateral colour sigma, of 0..255.")


class CrfSearch(Strict):
    """The search for the CRF's parameters on the held-out images (Chen et al. 2015, section 4)."""

    coarse: CrfGrid = Field(default_factory=lambda: CrfGrid(), description="First grid; the default is the paper's.")
    refine_rounds: int = Field(
        1, ge=0, description="Finer grids around the best, halving the distances; they stay where they are."
    )
    finer: tuple[CrfDistances, ...] = Field(
        (),
        description="Finer grids by their distances, in place of `refine_rounds`: each moves on while its best lies "
        "beside its middle, and so can leave the coarse grid. The first text of the paper does not print its own.",
    )
    w_pos: float = Field(3.0, ge=0, description="Weight of the position kernel, fixed.")
    sigma_pos: float = Field(3.0, gt=0, description="Sigma of the position kernel in pixels, fixed.")
    iterations: int = Field(10, ge=1, description="Mean-field iterations.")
    images: int | None = Field(None, ge=1, description="Use the first so many held-out images; null: all.")

    @property
    def rounds(self) -> int:
        """How many finer grids there are."""
        return len(self.finer) or self.refine_rounds


class Boxes(Strict):
    """Label maps from bounding boxes, and the search for their parameters on the held-out images (section 3.3)."""

    alphas: tuple[float, ...] = Field(
        (0.2, 0.4, 0.6, 0.8), min_length=1, description="Bbox-Seg: shares of a box tried as its core."
    )
    search: CrfSearch = Field(
        default_factory=lambda: CrfSearch(
            coarse=CrfGrid(w=(41.0, 45.0), sigma_xy=(33.0, 37.0), sigma_rgb=(3.0, 4.0)),
            refine_rounds=0,
            w_pos=15.0,
            sigma_pos=3.0,
        ),
        description="Bbox-Seg: CRF parameters tried with each alpha; the default holds the released ones.",
    )
    occluder_bias: float = Field(
        0.0, ge=0, description="Bbox-Seg: the k-th box from large to small gets so much times k in its core; 0: off."
    )
    quality_images: int | None = Field(
        500,
        ge=1,
        description="Training images on which label maps are held against the truth, at even distances; null: all.",
    )

    @model_validator(mode="after")
    def _alphas_are_shares(self) -> "Boxes":
        if not all(0 < alpha < 1 for alpha in self.alphas):
            raise ValueError("boxes.alphas must lie between 0 and 1")
        return self
