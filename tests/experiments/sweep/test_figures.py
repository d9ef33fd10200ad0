from experiments.sweep.figures import draw


def final(arm):
    return 9.0 if arm.teaching is None else 4.0 + arm.teaching.temperature


def test_settings_are_rows_and_temperatures_columns(build_results, tables_of):
    figure = draw(tables_of(build_results(final, temperatures=(0.0, 0.5, 1.0))))
    assert len(figure.axes) == 2 * 3
    titles = [axes.get_title() for axes in figure.axes[:3]]
    assert titles == ["temperature 0 (greedy)", "temperature 0.5", "temperature 1"]
    assert figure.axes[0].get_ylabel().startswith("cross")
    assert figure.axes[3].get_ylabel().startswith("same")


def test_each_panel_has_the_arms_and_the_levels_to_compare_them_with(build_results, tables_of):
    figure = draw(tables_of(build_results(final, noise=0.0)))
    # The third of four panels: setting same, temperature 0.
    lines = figure.axes[2].lines
    assert [line.get_label() for line in lines[:3]] == ["main-only", "sum", "cosine"]
    ends = [line.get_ydata()[-1] for line in lines]
    # Then optimum, the third teacher (worth 2), and the random policy, dotted.
    assert ends == [9.0, 4.0, 4.0, 10.0, 2.0, 0.0]
    assert all(line.get_linestyle() == ":" for line in lines[3:])
    assert {text.get_text() for text in figure.axes[2].texts} == {
        "optimum",
        "teacher",
        "random policy",
    }


def test_a_perfect_teacher_shares_the_label_of_the_optimum(build_results, tables_of):
    results = build_results(final, noise=0.0)
    results.teacher[2] = results.optimum
    axes = draw(tables_of(results)).axes[2]
    assert {text.get_text() for text in axes.texts} - {""} == {"optimum, teacher", "random policy"}
    # All three lines are there.
    assert [line.get_ydata()[0] for line in axes.lines[3:]] == [10.0, 10.0, 0.0]


def test_the_title_says_how_many_worlds_and_how_many_cells_are_aliased(build_results, tables_of):
    title = draw(tables_of(build_results(final))).get_suptitle()
    assert "20 partially observable gridworlds" in title
    assert "of 9 cells 4 look like another one" in title


def test_the_axis_says_what_is_counted(build_results, tables_of):
    sampled = draw(tables_of(build_results(final)))
    exact = draw(tables_of(build_results(final, gradients="exact")))
    assert sampled.axes[-1].get_xlabel() == "agent steps of each student"
    assert exact.axes[-1].get_xlabel() == "updates"
