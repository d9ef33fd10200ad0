"""What a gated backward pass is given, checked before anything has gone backward."""

from collections.abc import Sequence

from torch import Tensor

from agents.gates.base import Gate

Scalars = Sequence[Tensor]


def check_gate(gate: Gate) -> None:
    """Refuses what is no gate.

    Raises:
        ValueError: it names cause and cure.
    """
    if not isinstance(gate, Gate):
        raise ValueError(f"{gate!r} is no gate: give one, as from make('cosine').")


def check_parameters(shared: Sequence[Tensor], private: Sequence[Tensor]) -> None:
    """Refuses parameters that cannot be trained, or would be trained twice.

    Raises:
        ValueError: it names cause and cure.
    """
    if not shared:
        raise ValueError(
            "there are no shared parameters: give those that the main loss and an auxiliary train, "
            "or call backward() of the summed loss."
        )
    for name, parameters in ("shared", shared), ("private", private):
        for index, parameter in enumerate(parameters):
            if not isinstance(parameter, Tensor):
                raise ValueError(
                    f"{name}[{index}] is a {type(parameter).__name__}, not a parameter: give "
                    "[*module.parameters()]."
                )
            if name == "shared" and parameter.is_complex():
                raise ValueError(
                    f"shared[{index}] is complex, and a gate weighs real numbers: train its real "
                    "and imaginary part, and put them together by torch.view_as_complex."
                )
            if not parameter.requires_grad:
                raise ValueError(
                    f"{name}[{index}] is frozen (requires_grad is False): leave it out."
                )
    if len({id(parameter) for parameter in (*shared, *private)}) < len(shared) + len(private):
        raise ValueError(
            "a parameter is named twice, in shared or in private or in both: its gradient would be "
            "added twice; name each once, as shared if several losses train it."
        )


def check_features(features: Sequence[Tensor], gate: Gate, metric: Tensor | None) -> None:
    """Refuses to weigh at features what only parameters have.

    Args:
        features: where gradients are to be weighed.
        gate: that weighs them.
        metric: factors of the columns; None without.

    Raises:
        ValueError: it names cause and cure.
    """
    for index, feature in enumerate(features):
        if not feature.is_floating_point():
            raise ValueError(f"features[{index}] is {feature.dtype}: give numbers with gradients.")
    if metric is not None:
        raise ValueError("metric has factors of parameters: with features, give none.")
    check_at_features(gate)


def check_at_features(gate: Gate, metric: str = "plain", bypassing: Sequence[str] = ()) -> None:
    """Refuses what cannot be weighed at features, which are those of one batch.

    The next batch has other samples, so its columns mean something else.

    Args:
        gate: that weighs.
        metric: in which gradients are compared.
        bypassing: names of the heads whose gradients do not pass the features.

    Raises:
        ValueError: it begins with the option.
    """
    name = type(gate).__name__
    drawn_anew = gate.sample_rows > 0 and gate.sample_every == 1
    if gate.num_references > 0 and not drawn_anew:
        raise ValueError(
            f"at features weighs gradients over the features of one batch, so {name} cannot keep "
            "an average or a basis of them: set its decay to 0 (or its refresh to 1), or weigh at "
            "parameters."
        )
    if gate.slices > 0:
        raise ValueError(
            f"at features does not suit {name}, since slices of a batch have no features in "
            "common: weigh at parameters."
        )
    if metric != "plain":
        raise ValueError(
            f"at features has no metric {metric}, which scales parameters: drop one of the two."
        )
    if bypassing:
        raise ValueError(
            f"at features cannot weigh {', '.join(bypassing)}, which encodes observations of its "
            "own instead of reading the agent's features: weigh at parameters, or drop it."
        )


def check_losses(losses: Scalars, name: str = "losses") -> None:
    """Refuses what is not a scalar tensor.

    Raises:
        ValueError: it names cause and cure.
    """
    if len(losses) == 0:
        raise ValueError(f"{name} is empty: give the main loss first, then the auxiliary ones.")
    for index, loss in enumerate(losses):
        if not isinstance(loss, Tensor) or loss.dim() > 0:
            shape = f"of shape {list(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
            raise ValueError(
                f"{name}[{index}] must be a scalar tensor, not {shape}: take the mean over the "
                "batch."
            )


def check_main(loss: Tensor) -> None:
    """Refuses a main loss that cannot train anything.

    Raises:
        ValueError: it names cause and cure.
    """
    if not loss.requires_grad:
        raise ValueError(
            "losses[0], the main loss, has no graph: is it detached, or computed under no_grad?"
        )


def check_demands(
    gate: Gate,
    num_losses: int,
    samples: Scalars | None,
    slices: Sequence[Scalars] | None,
) -> None:
    """Refuses to go on without what the gate needs besides the losses.

    Args:
        gate: says what it needs.
        num_losses: L, the main loss included.
        samples: random combinations of per-sample main losses; None if there are none.
        slices: the losses of each slice of the data; None if the data is not sliced.

    Raises:
        ValueError: it names cause and cure.
    """
    gate.check(num_losses)
    name = type(gate).__name__
    if samples is not None:
        check_losses(samples, "samples")
    elif gate.sample_rows > 0 and gate.sample_every == 1:
        raise ValueError(
            f"{name} needs per-sample losses, not their mean alone: give samples=, "
            f"{gate.sample_rows} random combinations of them."
        )
    if slices is None and gate.slices == 0:
        return
    if slices is None or len(slices) != gate.slices:
        raise ValueError(
            f"{name} needs {gate.slices} slices of the data, not {len(slices or ())}: give "
            "slices=, for each slice the shares of all losses."
        )
    for index, part in enumerate(slices):
        if not isinstance(part, Sequence) or len(part) != num_losses:
            raise ValueError(
                f"slices[{index}] must have one loss for each of the {num_losses}: give the share "
                "of every loss."
            )
        check_losses(part, f"slices[{index}]")


def check_groups(groups: Sequence[int] | None, num_columns: int) -> None:
    """Refuses groups that are not consecutive blocks of all columns.

    Raises:
        ValueError: it names cause and cure.
    """
    if groups is None:
        return
    if not all(isinstance(length, int) and length > 0 for length in groups) or (
        sum(groups) != num_columns
    ):
        raise ValueError(
            f"groups must be lengths above 0 that add up to the {num_columns} shared numbers, not "
            f"{list(groups)}: see column_groups."
        )


def check_metric(metric: Tensor | None, num_columns: int) -> None:
    """Refuses a metric that is not one number for each column.

    Raises:
        ValueError: it names cause and cure.
    """
    if metric is not None and metric.shape != (num_columns,):
        raise ValueError(
            f"metric must be one positive number for each of the {num_columns} shared numbers, not "
            f"of shape {list(metric.shape)}."
        )


def check_rest(rest: Tensor | None) -> None:
    """Refuses a rest of the main loss that is not a scalar.

    Raises:
        ValueError: it names cause and cure.
    """
    if rest is not None:
        check_losses([rest], "rest")


def check_weights(weights: Tensor, num_losses: int, groups: Sequence[int] | None) -> None:
    """Refuses weights of an earlier judgement that do not fit.

    Args:
        weights: of the earlier judgement, one per loss.
        num_losses: L, the losses of this update.
        groups: lengths of the groups of columns; None for one group.

    Raises:
        ValueError: it names cause and cure.
    """
    if weights.shape != (num_losses,):
        raise ValueError(
            f"weights must be one number for each of {num_losses} losses, not of shape "
            f"{list(weights.shape)}: take judgement.weights[0]."
        )
    if groups is not None and len(groups) > 1:
        raise ValueError("weights are used again for all columns together: give no groups.")


def check_descent(descend_main: bool, num_losses: int) -> None:
    """Refuses to compare with the main loss alone where there is nothing else to descend.

    Raises:
        ValueError: it names cause and cure.
    """
    if not descend_main and num_losses == 1:
        raise ValueError(
            "descend_main is False and there is no auxiliary loss: nothing would be descended."
        )
