//! The runtime's contract suite, run on this machine's runtime.

#[cfg(test)]
mod tests {
    use mayfly_runtime::local::{LocalRuntime, Options};
    use mayfly_testkit::contract::runtime::runtime_contract;

    #[tokio::test]
    async fn the_local_runtime_keeps_the_contract() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut options = Options::new(folder.path());
        options.pool_bytes = Some(4 << 30);
        options.namespaces = 2;
        let runtime = LocalRuntime::open(options).await.expect("this host offers every layer");
        runtime_contract(&runtime).await;
        // The folder could not be deleted by an ordinary user otherwise.
        runtime.clear_layers().await.expect("nothing runs");
    }
}
