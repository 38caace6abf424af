from cliptune.data.threads import PIECE, mapped


def test_every_value_is_answered_in_order():
    n = 2 * PIECE + 3
    assert list(mapped(lambda value: value * value, range(n), threads=3)) == [value * value for value in range(n)]


def test_no_more_than_a_piece_is_taken_ahead():
    taken = []

    def values():
        for value in range(4 * PIECE):
            taken.append(value)
            yield value

    answers = mapped(lambda value: value, values(), threads=2)
    assert next(answers) == 0
    assert len(taken) == PIECE
    answers.close()
