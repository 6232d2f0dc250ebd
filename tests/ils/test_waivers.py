"""Privacy waivers, as a real Evergreen tells them."""

from support.recorded import gateway_of

from evergreen_groups.ils import Waiver


def test_names_are_text_in_the_order_of_entry() -> None:
    with gateway_of("slip-002") as gateway:
        found = Waiver.read(gateway, range(16575, 16581))
    assert found[16577] == (
        Waiver("Aunt <b>Mary</b> O'Neill", False, True, False, True),
        Waiver("Rosa", False, False, False, False),
    )
    assert found[16575] == ()
