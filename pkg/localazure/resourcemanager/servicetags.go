package resourcemanager

import "strings"

// serviceTags are the tags that a rule may name ("Virtual network service tags",
// available service tags), in lower case. Azure refuses a word that is none, such
// as "any", as an invalid address prefix.
var serviceTags = newSet(
	"VirtualNetwork", "AzureLoadBalancer", "Internet", "AzureCloud",
	"ActionGroup", "ApiManagement", "AppConfiguration", "AppService", "AppServiceManagement",
	"AutonomousDevelopmentPlatform", "AzureActiveDirectory", "AzureActiveDirectoryDomainServices",
	"AzureAdvancedThreatProtection", "AzureArcInfrastructure", "AzureAttestation", "AzureBackup",
	"AzureBotService", "AzureCognitiveSearch", "AzureConnectors", "AzureContainerAppsService",
	"AzureContainerRegistry", "AzureCosmosDB", "AzureDatabricks", "AzureDataExplorerManagement",
	"AzureDeviceUpdate", "AzureDevOps", "AzureDigitalTwins", "AzureEventGrid",
	"AzureFrontDoor.Backend", "AzureFrontDoor.FirstParty", "AzureFrontDoor.Frontend", "AzureHealthcareAPIs",
	"AzureInformationProtection", "AzureIoTHub", "AzureKeyVault", "AzureLoadTestingInstanceManagement",
	"AzureMachineLearning", "AzureMachineLearningInference", "AzureManagedGrafana", "AzureMonitor",
	"AzureOpenDatasets", "AzurePlatformDNS", "AzurePlatformIMDS", "AzurePlatformLKM",
	"AzureResourceManager", "AzureSentinel", "AzureSignalR", "AzureSiteRecovery", "AzureSphere",
	"AzureSpringCloud", "AzureStack", "AzureTrafficManager", "AzureUpdateDelivery", "AzureWebPubSub",
	"BatchNodeManagement", "ChaosStudio", "CognitiveServicesFrontend", "CognitiveServicesManagement",
	"DataFactory", "DataFactoryManagement", "Dynamics365ForMarketingEmail", "EventHub", "GatewayManager",
	"GuestAndHybridManagement", "HDInsight", "LogicApps", "LogicAppsManagement", "M365ManagementActivityApi",
	"MicrosoftAzureFluidRelay", "MicrosoftCloudAppSecurity", "MicrosoftContainerRegistry",
	"MicrosoftDefenderForEndpoint", "MicrosoftPurviewPolicyDistribution", "PowerBI", "PowerPlatformInfra",
	"PowerPlatformPlex", "PowerQueryOnline", "SCCservice", "ServiceBus", "ServiceFabric", "Sql",
	"SqlManagement", "Storage", "StorageSyncService", "StorageMover", "WindowsAdminCenter",
	"WindowsVirtualDesktop", "VideoIndexer",
)

func newSet(words ...string) map[string]bool {
	set := make(map[string]bool, len(words))
	for _, w := range words {
		set[strings.ToLower(w)] = true
	}
	return set
}

// isServiceTag reports whether the value is a tag, or a tag with a region
// ("Storage.WestEurope").
func isServiceTag(value string) bool {
	value = strings.ToLower(value)
	if serviceTags[value] {
		return true
	}
	i := strings.LastIndexByte(value, '.')
	if i < 0 || i == len(value)-1 || strings.Trim(value[i+1:], "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return false
	}
	switch value[:i] {
	case "virtualnetwork", "azureloadbalancer", "internet":
		return false // these have no regions
	}
	return serviceTags[value[:i]]
}
