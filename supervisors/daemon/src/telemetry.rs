//! The log, on standard error; spans to a collector with the feature `otlp`.

use crate::config::{LogFormat, Settings};
use archipel_contract::Fault;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

/// Keeps the way to the collector open; what is buffered is sent when it is dropped.
pub(crate) struct Telemetry {
    #[cfg(feature = "otlp")]
    provider: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

/// Starts logging. Must be called once.
pub(crate) fn start(settings: &Settings) -> Result<Telemetry, Fault> {
    let filter: Targets = settings.log_filter.parse().map_err(|e| Fault::invalid("log.filter cannot be used").because(e))?;
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match settings.log_format {
        LogFormat::Text => fmt::layer().with_writer(std::io::stderr).with_ansi(colours).with_filter(filter).boxed(),
        LogFormat::Json => fmt::layer().with_writer(std::io::stderr).json().flatten_event(true).with_filter(filter).boxed(),
    };
    let registry = tracing_subscriber::registry().with(lines);
    #[cfg(feature = "otlp")]
    let (registry, provider) = {
        let provider = settings.otlp.as_deref().map(exporter).transpose()?;
        let spans = provider.as_ref().map(|provider| {
            let tracer = opentelemetry::trace::TracerProvider::tracer(provider, "archipeld");
            tracing_opentelemetry::layer().with_tracer(tracer).with_filter(tracing_subscriber::filter::LevelFilter::INFO)
        });
        (registry.with(spans), provider)
    };
    registry.try_init().map_err(|e| Fault::internal("the log was started twice").because(e))?;
    Ok(Telemetry {
        #[cfg(feature = "otlp")]
        provider,
    })
}

#[cfg(feature = "otlp")]
fn exporter(endpoint: &str) -> Result<opentelemetry_sdk::trace::SdkTracerProvider, Fault> {
    use opentelemetry_otlp::WithExportConfig;
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().with_endpoint(endpoint).build().map_err(|e| {
        Fault::invalid("log.otlp cannot be used; give the whole address, for example http://127.0.0.1:4318/v1/traces").because(e)
    })?;
    let resource = opentelemetry_sdk::Resource::builder().with_service_name("archipeld").build();
    // The exporter blocks, and the batch processor gives it a thread of its own.
    Ok(opentelemetry_sdk::trace::SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build())
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        #[cfg(feature = "otlp")]
        if let Some(Err(error)) = self.provider.as_ref().map(|provider| provider.shutdown()) {
            tracing::warn!(%error, "the last spans may be lost");
        }
    }
}
