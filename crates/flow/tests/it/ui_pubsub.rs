//! Mistakes with `#[pubsub_agent]` that the compiler must name, with its words in `tests/ui`.

#[test]
fn mistakes_in_agents_are_named_at_their_place() {
    trybuild::TestCases::new().compile_fail("tests/ui/pubsub_*.rs");
}
