"""The index as a layer of the model: T(x) = R^T rho(psi(R x), phi(R x - v_psi(R x)))."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poeem.checks import seed_in_range
from poeem.config import LayerConfig, flat_arguments
from poeem.errors import ConfigError
from poeem.quantize import coarse, ranks
from poeem.quantize.checks import check_numbers
from poeem.quantize.health import CodeHealth, code_health, health_of_counts
from poeem.quantize.layer_codes import LayerCodes
from poeem.quantize.layer_state import Phase, in_full_precision
from poeem.quantize.losses import commitment_loss, distortion_loss
from poeem.quantize.precision import full_precision
from poeem.quantize.warm_start import query_metric, starting_point

# A step in so many looks whether the rotation is one: dim^3 operations.
_STEPS_BETWEEN_CHECKS = 100
# Lists of centroids that are shorter than this share of the vectors only route (`add_lists`).
_ROUTE_LENGTH = 0.1


@dataclass(frozen=True)
class IndexOutput:
    """What the layer returns for n vectors.

    vectors: [n, dim], T(x) with a straight-through gradient; x itself before the warm start. In
        training mode with `quantizer_dropout` or `tail_dropout`, the last codewords of some rows
        are left out.
    codes: int64 [n, num_subspaces], or None before the warm start.
    lists: int64 [n], or None before the warm start or without lists.
    loss: scalar, the weighted sum of the two below; add it to your own. 0 before the warm start.
    distortion: scalar, mean |sg(x) - T(x)|^2.
    commitment: scalar, mean |x - sg(T(x))|^2.
    coarse_vectors: [n, dim], the centroid of each list in the space of the vectors, R^T v_psi, with
        a straight-through gradient, and always one to the centroids too; None before the warm
        start or without lists. A retrieval loss on these teaches which list a query should probe.
    """

    vectors: Tensor
    codes: Tensor | None
    lists: Tensor | None
    loss: Tensor
    distortion: Tensor
    commitment: Tensor
    coarse_vectors: Tensor | None = None


class IndexLayer(LayerCodes):
    """Quantizes vectors as the index will, inside the training graph.

    Args:
        dim: length of a vector; a multiple of num_subspaces for product codes.
        **settings: any field of `poeem.config.LayerConfig`, by name: family, num_subspaces,
            num_codewords, num_lists, rotation, beam, query_power, parallel_weight,
            quantizer_dropout, tail_dropout, gradient, distortion_weight, commitment_weight,
            pass_through_steps, num_samples, kmeans_iterations, rotation_iterations, refit_rounds,
            revive_window, seed.

    Under `DistributedDataParallel` warm start and revival are those of all ranks, in the same step.
    Wrap with `find_unused_parameters=True`: before the warm start the layer's parameters are in no
    graph. In the first step all ranks begin where rank 0 stands, say with a checkpoint that it
    alone has loaded. After it a warm start, a refit or a checkpoint by hand is not shared: give all
    ranks the same. Every rank must make equally many steps, so `join()` is not for it.

    Copies whose weights are averaged (`torch.optim.swa_utils.AveragedModel`) are made after the
    warm start, which is not averaged; a mean of rotations is none, so leave it to residual codes.

    Each forward call in training mode is one step towards the warm start, so keep the layer out of
    activation checkpointing, which calls it twice.

    Parameters of the module, always float32 (or float64 after `.double()`):
        rotation: [dim, dim], orthonormal, or None; hand it to `GivensDescent`.
        centroids: [num_lists, dim], in rotated space.
        codebooks: in rotated space, of the residual: [num_subspaces, num_codewords, sub_dim] for
            product codes, [num_subspaces, num_codewords, dim] for residual codes.

    Raises:
        ConfigError: an unknown setting, one out of range, or, for product codes, num_subspaces
            does not divide dim.

    Source: Zhang et al., Joint learning of deep retrieval model and product quantization based
        embedding index, SIGIR 2021, arXiv 2105.03933, sections 3.1 to 3.3.
    """

    @classmethod
    def from_config(cls, dim: int, config: LayerConfig) -> IndexLayer:
        """Build from a config object."""
        return cls(dim, **flat_arguments(config))

    # Training

    def forward(self, vectors: Tensor) -> IndexOutput:
        """Quantize vectors; in training mode also collect, warm-start and revive.

        Args:
            vectors: float32, float16 or bfloat16 [n, dim]; finite. Computed in float32 whatever
                autocast is around.

        Raises:
            ShapeError, DtypeError, NonFiniteError: vectors that cannot be used; state unchanged.
            InputError: something else than `GivensDescent` has moved the rotation off a rotation.
        """
        x = self._checked(vectors)
        with full_precision(x.device):
            if self.training:
                self._advance(x.detach())
            if self.phase is not Phase.JOINT:
                zero = x.new_zeros(())
                return IndexOutput(vectors, None, None, zero, zero, zero)
            codes, lists = self._assign(x.detach())
            if self.training:
                self._count(codes, lists)
            base = None if lists is None else coarse.decode(lists, self.centroids)
            words = self.family.decode(codes, self.codebooks)
            quantized = self._rotate_back(self._add(base, words))
            distortion = distortion_loss(x, quantized)
            commitment = commitment_loss(x, quantized)
            loss = (
                self.config.distortion_weight * distortion
                + self.config.commitment_weight * commitment
            )
            value = self._seen(codes, base, quantized)
            as_if = x - x.detach()  # 0, with the gradient of x: values stay T(x) to the bit
            out, near = (value + as_if).to(vectors.dtype), None
            if base is not None:
                near = (self._rotate_back(base) + as_if).to(vectors.dtype)
        return IndexOutput(out, codes, lists, loss, distortion, commitment, near)

    def _seen(self, codes: Tensor, base: Tensor | None, quantized: Tensor) -> Tensor:
        """Return what the loss sees as T(x): in training, some through fewer codewords."""
        seen, both = quantized, self.config.gradient == "both"
        if self.training and (self.quantizer_dropout or self.tail_dropout):
            seed = seed_in_range(self.config.seed * 1_000_003 + self.num_steps)
            with torch.set_grad_enabled(both and torch.is_grad_enabled()):
                words = self.family.decode_some(
                    codes, self.codebooks, self.quantizer_dropout, self.tail_dropout, seed
                )
                if words is not None:
                    seen = self._rotate_back(self._add(base, words))
        return seen if both else seen.detach()

    def euclidean_parameters(self) -> list[nn.Parameter]:
        """Return centroids and codebooks: for Adam and the like."""
        return [self.centroids, self.codebooks] if self.num_lists else [self.codebooks]

    def rotation_parameters(self) -> list[nn.Parameter]:
        """Return the rotation, or nothing without one: for `GivensDescent`."""
        return [] if self.rotation is None else [self.rotation]

    @in_full_precision
    @torch.no_grad()
    def warm_start(self, vectors: Tensor | None = None, queries: Tensor | None = None) -> None:
        """Fit rotation, centroids and codebooks, and quantize from now on.

        Args:
            vectors: [n, dim], a sample of what the layer will see, best of the whole catalogue;
                None = what was collected so far. May be called again to start over.
            queries: [m, dim], a sample of query vectors; residual codes are then chosen by the
                error in directions that queries point in, see `query_metric`.

        Raises:
            ShapeError: fewer vectors than codewords or lists; state unchanged. DtypeError,
                NonFiniteError: vectors or queries that cannot be used; state unchanged.
        """
        asked = None if queries is None else self._checked(queries).detach()
        if vectors is None:
            width = (0, self.dim)
            vectors = torch.cat(self._samples) if self._samples else self.codebooks.new_zeros(width)
            x = vectors.to(self.codebooks)
        else:
            x = self._checked(vectors).detach()
        generator = torch.Generator().manual_seed(self.config.seed)
        if len(x) > self.config.num_samples:
            x = x[torch.randperm(len(x), generator=generator)[: self.config.num_samples]]
        metric = self.metric
        if metric is not None and asked is not None:
            metric = query_metric(asked, self.config.query_power)
        start = starting_point(
            x, self.config, family=self.family, generator=generator, metric=metric
        )
        if self.metric is not None and metric is not None:
            self.metric.copy_(metric)
        if self.rotation is not None and start.rotation is not None:
            self.rotation.copy_(start.rotation)
        self.centroids.copy_(start.centroids)
        self.codebooks.copy_(start.codebooks)
        self._reset_counts()
        self._samples.clear()
        self.phase = Phase.JOINT

    @in_full_precision
    @torch.no_grad()
    def refit(
        self, vectors: Tensor, queries: Tensor | None = None, *, beam: int | None = None
    ) -> None:
        """Fit the codebooks once more, from where they are; rotation and centroids stay.

        Args:
            vectors, queries: as in `warm_start`; without queries the metric stays what it was.
            beam: residual codes: width of the search for codes, 1 to 256; None = the configured.

        Raises:
            NotWarmError: before the warm start. ShapeError, DtypeError, NonFiniteError,
                ConfigError: input that cannot be used; state unchanged.
        """
        self._require_warm("codebooks")
        beam = self._checked_beam(beam)
        x = self._checked(vectors).detach()
        asked = None if queries is None else self._checked(queries).detach()
        if len(x) > self.config.num_samples:
            generator = torch.Generator().manual_seed(self.config.seed)
            x = x[torch.randperm(len(x), generator=generator)[: self.config.num_samples]]
        residuals, _ = self._residuals(x)
        if self.metric is None:
            books = self.codebooks.detach()
            self.codebooks.copy_(self.family.refit(residuals, books, beam, self._costly(x)))
            return
        if asked is not None:
            self.metric.copy_(query_metric(self._rotate(asked), self.config.query_power))
        weighed = self.codebooks.detach() @ self.metric.T
        weighed = self.family.refit(residuals @ self.metric.T, weighed, beam, self._costly(x))
        self.codebooks.copy_(weighed @ torch.linalg.inv(self.metric).T)

    @in_full_precision
    @torch.no_grad()
    def use_all_codewords(
        self, vectors: Tensor, codes: Tensor, lists: Tensor | None = None
    ) -> Tensor:
        """Give codewords that none of these codes has to the vectors that lose most.

        For codes that are to stay: a codeword moves to where its vector loses nothing, and whether
        `encode` finds it there is another matter.

        Args:
            vectors: [n, dim].
            codes, lists: what `encode` returned for them, integers [n, num_subspaces] and [n].

        Returns:
            The codes, int64 [n, num_subspaces]. Every codeword is used, unless few vectors share
            theirs or lose anything, or the codebooks are frozen by hand.

        Raises:
            NotWarmError: before the warm start. ShapeError, DtypeError, NonFiniteError, InputError:
                vectors or codes that cannot be used; state unchanged.
        """
        x = self._checked(vectors).detach()
        self._require_decodable(lists)
        check_numbers("codes", codes, (len(x), self.num_subspaces), self.num_codewords)
        codes, residuals = codes.long(), self._rotate(x)
        if lists is not None:
            check_numbers("lists", lists, (len(x),), self.num_lists)
            residuals = residuals - self.centroids[lists.long()]
        if not self.codebooks.requires_grad:  # frozen by hand: they stay
            return codes
        found, books = self.family.with_all_used(residuals, codes, self.codebooks.detach())
        self.codebooks.copy_(books)
        return found

    @in_full_precision
    @torch.inference_mode(False)
    @torch.no_grad()
    def add_lists(self, centroids: Tensor) -> None:
        """Give a layer without lists centroids, which from now on are part of T(x).

        The codewords stay, so the centroids should be small beside them: such lists only route, and
        one that becomes empty gets a centroid as small. An optimizer made before does not know the
        centroids; give it `euclidean_parameters()[0]`.

        Args:
            centroids: [num_lists, dim], in the space of the vectors.

        Raises:
            NotWarmError: before the warm start. ConfigError: there are lists already.
            ShapeError, DtypeError, NonFiniteError: centroids that cannot be used; state unchanged.
        """
        self._require_warm("lists")
        if self.num_lists:
            raise ConfigError(f"lists: got some, but the layer has {self.num_lists} already")
        rotated = self._rotate(self._checked(centroids).detach())
        self.make_room_for_lists(len(rotated))
        self.centroids.copy_(rotated)
        self._reset_counts()

    def _advance(self, x: Tensor) -> None:
        """Move through the phases, one training step at a time."""
        if ranks.first_call(self):
            self._begin_alike()
        waited = self.config.pass_through_steps
        if self.phase is Phase.PASS_THROUGH and waited is not None and self.num_steps >= waited:
            self.phase = Phase.COLLECT
        if self.phase is Phase.COLLECT:
            self._collect(x)
        elif self.phase is Phase.JOINT:
            self._revive(x)
            if self.num_steps % _STEPS_BETWEEN_CHECKS == 0:
                self._check_rotation()
        self.num_steps += 1

    def _collect(self, x: Tensor) -> None:
        missing = self.config.num_samples - sum(len(s) for s in self._samples)
        # A copy: the caller may overwrite its tensor before the warm start.
        self._samples.append(x[:missing].clone())
        if not ranks.smallest(int(len(x) >= missing), x):
            return
        if ranks.num_ranks() == 1:
            self.warm_start()
            return
        self.warm_start(ranks.pool(torch.cat(self._samples), self.config.seed))
        ranks.take_from_first((*self.parameters(), *self.buffers()))

    # Health

    @in_full_precision
    @torch.no_grad()
    def health(self, vectors: Tensor | None = None) -> CodeHealth:
        """Return figures about codes: of `vectors` [n, dim], or of the current window of training.

        Raises:
            NotWarmError: before the warm start.
        """
        self._require_warm("health figures")
        if vectors is None:
            return health_of_counts(self.codeword_counts, self.list_counts)
        x = self._checked(vectors)
        codes, lists = self._assign(x)
        distortion = float(distortion_loss(x, self._decode(codes, lists)))
        return code_health(
            codes,
            self.num_codewords,
            lists=lists,
            num_lists=self.num_lists,
            distortion=distortion,
        )

    @torch.no_grad()
    def _revive(self, x: Tensor) -> None:
        """At the end of a window, put unused centroids and codewords where vectors are now."""
        window = self.config.revive_window * max(self.num_codewords, self.num_lists)
        if not window or not self._window_is_over(window, x):
            return
        generator = torch.Generator().manual_seed(seed_in_range(self.config.seed + self.num_steps))

        def random_rows(count: int) -> Tensor:
            return torch.randint(len(x), (count,), generator=generator).to(x.device)

        dead_lists = (self.list_counts == 0).nonzero()[:, 0]
        if len(dead_lists) and self.centroids.requires_grad:  # else frozen by hand: they stay
            found = self._rotate(x)[random_rows(len(dead_lists))]
            self.centroids[dead_lists] = found * self._route_scale(x, self.list_counts > 0)
        residuals, _ = self._residuals(x)
        subspaces, dead = (self.codeword_counts == 0).nonzero(as_tuple=True)
        if len(dead) and self.codebooks.requires_grad:
            rows = random_rows(len(dead))
            self.codebooks[subspaces, dead] = self.family.replacements(
                residuals[rows], subspaces, self.codebooks
            )
        ranks.take_from_first((self.centroids, self.codebooks))
        self._reset_counts()

    def _route_scale(self, x: Tensor, alive: Tensor) -> Tensor:
        """Return how long centroids are beside vectors where lists only route, else 1."""
        share = self.centroids[alive].norm(dim=1).mean() / x.norm(dim=1).mean()
        return torch.where(share < _ROUTE_LENGTH, share, torch.ones_like(share))
