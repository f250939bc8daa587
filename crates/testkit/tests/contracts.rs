//! The stand-ins keep the contracts that the real adapters keep.

#[cfg(test)]
mod tests {
    use mayfly_testkit::contract::volumes::volumes_contract;
    use mayfly_testkit::{FakeRuntime, FakeStore, runtime_contract, store_contract};

    #[tokio::test]
    async fn the_store_in_memory_keeps_the_contract() {
        store_contract(&FakeStore::default()).await;
    }

    #[tokio::test]
    async fn the_runtime_in_memory_keeps_the_contract() {
        runtime_contract(&FakeRuntime::default()).await;
    }

    #[tokio::test]
    async fn the_volumes_in_memory_keep_the_contract() {
        volumes_contract(&FakeRuntime::default()).await;
    }
}
