// One page that shows whether it lives, what it does, and what went wrong.

param location string
param tags object
param workspaceId string

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, 'portcullis-workbook')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Portcullis'
    category: 'workbook'
    sourceId: workspaceId
    version: 'Notebook/1.0'
    serializedData: string(union(loadJsonContent('../workbook.json'), {
      fallbackResourceIds: [
        workspaceId
      ]
    }))
  }
}
